//! Where the commands meet the engine: the only file that names its types.

pub(crate) use portway::api::{Engine, ServeOptions, Transfer, address};
