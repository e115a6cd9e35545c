"""Python stand-ins for the services, for machines without their toolchains."""
