"""A real schema registry on loopback: Apicurio, which speaks the Confluent API as well."""
