"""A real Kafka (KRaft, combined broker and controller nodes) on loopback."""
