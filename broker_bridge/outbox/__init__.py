"""The transactional outbox: events written in the service's own transaction, relayed to Kafka in key order."""
