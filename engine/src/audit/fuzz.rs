//! What the decoders of this module promise; `crate::fuzzing` lists them.
