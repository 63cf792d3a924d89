//! The HTTP types of the gateway.
