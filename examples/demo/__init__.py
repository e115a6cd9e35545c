"""The demo: a Go service, a Rust service, real failures between them, and books that must balance afterwards."""
