//! Payment gateways (PG) behind one port. Adapters translate and nothing else: what follows from an answer is decided in `domain::payment`.

pub mod port;
