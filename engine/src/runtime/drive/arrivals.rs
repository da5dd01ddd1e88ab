//! Data messages that arrive at a target.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::coding::decoded;
use super::landing::Landing;
use super::target::{Content, Input};
use super::{Context, spawn_input};
use crate::runtime::target::TargetStore;
use crate::transport::{Incoming, Link, LinkError};
use crate::wire::{Coded, DataHeader};

/// Reads each data message into a lease of its own; without a free lease, or while others come first,
/// the link waits.
pub(super) fn spawn_data_receiver<L: Link>(
    context: &Context<L>,
    (landing, store): (&Landing, &Arc<TargetStore>),
    inputs: &mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    let (link, slab, inputs) = (context.link.clone(), context.slab.clone(), inputs.clone());
    let (landing, codecs) = (landing.clone(), Arc::clone(&context.codecs));
    let store = Arc::clone(store);
    let (paces, unpaid) = (context.share.paces_in(), Arc::new(AtomicU64::new(0)));
    tasks.spawn(async move {
        let mut reads = JoinSet::new();
        loop {
            paces.pass_all(unpaid.swap(0, Relaxed)).await;
            // The frame receiver reports a link that is gone.
            let Ok(incoming) = link.recv_data().await else { break };
            let mut lease = slab.lease().await;
            while reads.try_join_next().is_some() {}
            let (path, landing) = (incoming.path(), landing.clone());
            let (store, codecs) = (Arc::clone(&store), Arc::clone(&codecs));
            let unpaid = Arc::clone(&unpaid);
            spawn_input(&mut reads, &inputs, async move {
                match DataHeader::decode(incoming.header()) {
                    Err(error) => Input::Lost(LinkError::Protocol { detail: error.to_string() }),
                    Ok(header) => {
                        landing.align(&mut lease, &header);
                        let Ok((lease, bytes)) = incoming.read(lease).await else {
                            return Input::Cut;
                        };
                        unpaid.fetch_add(bytes as u64, Relaxed);
                        let difference = header.coded.is_some_and(Coded::is_difference);
                        match decoded((store, codecs), lease, bytes, &header).await {
                            Ok((lease, bytes)) => {
                                Input::Data(header, Content { lease, bytes, path, difference })
                            }
                            Err(error) => Input::Lost(error),
                        }
                    }
                }
            });
        }
        while reads.join_next().await.is_some() {}
    });
}
