//! How content reaches memory of a GPU: written there by the NIC, or staged through a lease.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::RailError;
use crate::gpu::{DeviceMemory, Export, Exports, NoExport};

/// Something that memory of a GPU can be registered with: a rail that is open.
pub trait Registrar {
    /// A registration. It keeps the export, and goes when it is dropped.
    type Region;

    /// Registers an export for local use only: nobody else can reach it.
    ///
    /// # Errors
    /// The library, the kernel, or the device cannot, in words.
    fn register(&self, export: &Arc<Export>) -> Result<Self::Region, RailError>;
}

/// Why content for memory of a GPU is staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StagedBecause {
    /// Nothing could write to it: content comes by QUIC.
    #[error("content comes by QUIC")]
    NoRail,
    /// The GPU's side stands against it.
    #[error(transparent)]
    NoExport(#[from] NoExport),
    /// The NIC's side stands against it.
    #[error(transparent)]
    Refused(#[from] RailError),
}

/// How content reaches one range of device memory.
pub enum Destination<R> {
    /// READs write to it.
    Direct(Direct<R>),
    /// It is copied there from a lease, by [`Staging`](crate::gpu::Staging).
    Staged(StagedBecause),
}

impl<R> fmt::Display for Destination<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(_) => f.write_str("direct (dmabuf)"),
            Self::Staged(why) => write!(f, "staged, because {why}"),
        }
    }
}

/// Device memory that is registered. Who posts a READ into it holds this until the READ is over:
/// it keeps the memory allocated and the registration alive.
pub struct Direct<R> {
    region: Arc<R>,
    memory: DeviceMemory,
}

impl<R> Direct<R> {
    /// The registration, whose key a READ needs. Others may share it.
    pub fn region(&self) -> &Arc<R> {
        &self.region
    }

    /// The memory: its address is what a READ names.
    pub fn memory(&self) -> &DeviceMemory {
        &self.memory
    }
}

/// The registrations of one GPU's memory with one rail. Ranges of one allocation share one where
/// possible; it goes with the last [`Direct`] that uses it.
pub struct Destinations<R> {
    exports: Arc<Exports>,
    made: Mutex<Vec<(Weak<Export>, Weak<R>)>>,
}

impl<R> Destinations<R> {
    /// None so far. Several rails share `exports`.
    pub fn new(exports: Arc<Exports>) -> Self {
        Self { exports, made: Mutex::new(Vec::new()) }
    }

    /// How content is to reach `memory`: directly if all sides can, staged otherwise, with the
    /// reason. `rail` is always the same one.
    ///
    /// If an allocation cannot be registered as a whole, which can be more than a GPU's PCI window
    /// has room for, the pages of `memory` are tried alone.
    pub fn plan<G>(&self, rail: Option<&G>, memory: &DeviceMemory) -> Destination<R>
    where
        G: Registrar<Region = R>,
    {
        let Some(rail) = rail else { return Destination::Staged(StagedBecause::NoRail) };
        match self.register(rail, memory) {
            Ok(region) => Destination::Direct(Direct { region, memory: memory.clone() }),
            Err(why) => Destination::Staged(why),
        }
    }

    fn register<G>(&self, rail: &G, memory: &DeviceMemory) -> Result<Arc<R>, StagedBecause>
    where
        G: Registrar<Region = R>,
    {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(_, region)| region.strong_count() > 0);
        let mut region_of = |export: Arc<Export>| -> Result<Arc<R>, StagedBecause> {
            let known = made.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(&export));
            if let Some(region) = known.and_then(|(_, region)| region.upgrade()) {
                return Ok(region);
            }
            let region = Arc::new(rail.register(&export)?);
            made.push((Arc::downgrade(&export), Arc::downgrade(&region)));
            Ok(region)
        };
        let export = self.exports.of(memory)?;
        let bytes = export.bytes();
        match region_of(export) {
            // The export of the whole is gone by now, if nobody else holds it.
            Err(refused) => match self.exports.only(memory) {
                Ok(export) if export.bytes() < bytes => region_of(export),
                _ => Err(refused),
            },
            registered => registered,
        }
    }
}

#[cfg(test)]
mod tests;
