//! Data messages that arrive at a target.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::coding::decoded;
use super::landing::Landing;
use super::target::{Content, Input};
use super::{Context, spawn_input};
use crate::metrics::Stages;
use crate::transport::{Incoming, Link, LinkError};
use crate::wire::DataHeader;

/// Reads each data message into a lease of its own; without a free lease, or while others come first,
/// the link waits.
pub(super) fn spawn_data_receiver<L: Link>(
    context: &Context<L>,
    (landing, stages): (&Landing, &Arc<Stages>),
    inputs: &mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) {
    let (link, slab, inputs) = (context.link.clone(), context.slab.clone(), inputs.clone());
    let (landing, codecs) = (landing.clone(), Arc::clone(&context.codecs));
    let stages = Arc::clone(stages);
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
            let (codecs, stages) = (Arc::clone(&codecs), Arc::clone(&stages));
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
                        match decoded((codecs, stages), lease, bytes, header.coded).await {
                            Ok((lease, bytes)) => {
                                Input::Data(header, Content { lease, bytes, path })
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
