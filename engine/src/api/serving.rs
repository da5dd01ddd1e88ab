//! What a serving node does in one session: answers a question, or takes part in a transfer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::connect::{NodeLink, expect_hello, our_hello, recv};
use super::crossing::{self, Ended};
use super::giving::Readings;
use super::lanes::Tools;
use super::server::Shared;
use super::{calls, receipts};
use crate::audit::Ending;
use crate::base::RelPath;
use crate::border::{Closed, Way};
use crate::encode::Compress;
use crate::metrics::{NodeStatus, Phase, Snapshot, TransferMeter};
use crate::policy::Action;
use crate::protocol::{Failure, SourceEnd, Stop};
use crate::runtime::drive::{Context, Lost, run_source};
use crate::runtime::root::Root;
use crate::runtime::source::{Around, SourceFiles, SourceRoot};
use crate::storage;
use crate::transport::quic::QuicLink;
use crate::transport::rdma::Ports;
use crate::transport::{Link, LinkError, Peer};
use crate::wire::{Accept, Frame, Open, Operation};

/// Longest that a peer may take to say what a session is for.
const OPENING: Duration = Duration::from_secs(10);

impl Shared {
    /// One session from its greeting to its end.
    pub(super) async fn session(self: Arc<Self>, link: QuicLink) {
        let link = NodeLink::plain(link);
        let peer = link.peer().clone();
        let told = self.engine.0.offer(&self.us, &peer);
        let opening = async {
            let roles = self.engine.border().ok().and_then(|border| border.roles());
            link.send(our_hello(&told, roles).encode()).await?;
            let hello = expect_hello(&link).await?;
            if peer.enrolling.is_none() {
                self.hear(&peer, hello.roles);
            }
            Ok::<_, LinkError>((Ports::heard(&hello), recv(&link).await?))
        };
        let first = tokio::time::timeout(OPENING, opening).await;
        let reason = match first {
            Err(_) => "nothing was asked in time".to_owned(),
            // Who only wanted to hear what is new here leaves again.
            Ok(Err(error @ LinkError::Closed { .. })) => {
                tracing::debug!(peer = %peer.called(), %error, "nothing was asked");
                error.to_string()
            }
            Ok(Err(error)) => {
                tracing::info!(peer = %peer.called(), %error, "a session did not begin");
                error.to_string()
            }
            Ok(Ok((heard, frame))) => self.begun(&link, (told, heard), frame).await,
        };
        link.close(&reason).await;
    }

    /// Answers a question, and those that follow it in the same session.
    pub(super) async fn answer_all(
        self: &Arc<Self>,
        link: &NodeLink,
        mut method: String,
        mut body: Bytes,
    ) {
        let mut stopping = self.stopping.subscribe();
        let readings = Arc::new(Readings::new(link));
        let (ending, why) = loop {
            calls::answer(self, link, &readings, (&method, &body)).await;
            let next = tokio::select! {
                next = tokio::time::timeout(OPENING, recv(link)) => next,
                _ = stopping.wait_for(|stop| *stop) => {
                    break (Ending::Interrupted, "the node stops");
                }
            };
            match next {
                Ok(Ok(Frame::Call { method: next, body: question })) => {
                    (method, body) = (next, question);
                }
                Ok(Err(LinkError::Closed { .. })) => break (Ending::Complete, "closed"),
                Ok(_) => break (Ending::Interrupted, "the session was lost"),
                Err(_) => break (Ending::Interrupted, "nothing more was asked for some time"),
            }
        };
        readings.close(ending, why).await;
    }

    pub(super) async fn transfer(&self, link: &NodeLink, open: Open) -> Result<String, Failure> {
        let peer = link.peer().node.clone();
        if Root::is_own(&open.path) {
            let failure = Failure::new("unsafe-path", "that path is portway's own");
            return refuse(link, failure).await;
        }
        let action = match open.operation {
            Operation::Push => "push",
            Operation::Pull => "pull",
            Operation::Plan => "plan",
        };
        let meter = TransferMeter::new(action, peer.as_str(), &open.path.to_string());
        meter.set_transport(link.name());
        meter.set_id(open.transfer_id);
        self.engine.0.registry.begin(&meter);
        let began = Instant::now();
        let clock = tokio::spawn(keep_time(Arc::clone(&meter), began));
        let ended = match open.operation {
            Operation::Pull => self.give(link, &open, &meter).await,
            Operation::Push | Operation::Plan => self.take(link, &open, &meter).await,
        };
        clock.abort();
        meter.elapsed_ms.set(began.elapsed().as_millis() as u64);
        meter.set_phase(Phase::Ended, "");
        let how = match &ended {
            Ok(how) => how.clone(),
            Err(failure) => failure.detail.clone(),
        };
        tracing::info!(transfer = meter.snapshot().transfer_id, action, %peer, how, "ended");
        self.engine.0.registry.end(&meter, ended.as_ref().is_ok_and(|how| how == "done"), &how);
        ended
    }

    pub(super) fn context(
        &self,
        link: &NodeLink,
        (meter, open): (&Arc<TransferMeter>, &Open),
        cancel: watch::Receiver<bool>,
        (compress, way): (Compress, &Arc<Way>),
    ) -> Context<NodeLink> {
        let Tools { slab, codecs, share } = self.engine.0.tools(open.priority, open.limit);
        Context {
            link: link.clone(),
            slab,
            codecs,
            share,
            compress,
            meter: Arc::clone(meter),
            way: Arc::clone(way),
            cancel,
        }
    }

    /// Takes part as the source.
    async fn give(
        &self,
        link: &NodeLink,
        open: &Open,
        meter: &Arc<TransferMeter>,
    ) -> Result<String, Failure> {
        let mut reading = self.root.readers.begin(&open.path);
        if !storage::exists(&*self.root.tree, &open.path) {
            return refuse(link, self.absent(link.peer(), &open.path).await).await;
        }
        let peer = &link.peer().node;
        tracing::info!(transfer = %open.transfer_id, %peer, path = %open.path, "sending");
        let tree = Arc::clone(&self.root.tree);
        let root = SourceRoot {
            tree,
            path: open.path.clone(),
            place: RelPath::root(),
            around: Around::default(),
        };
        let files = Arc::new(SourceFiles::new(vec![root]));
        let (action, id) = (Action::Pull, open.transfer_id);
        let way = match self.enter(link, open, action, id, Some(&files)).await {
            Ok(way) => way,
            Err(failure) => return refuse(link, failure).await,
        };
        files.guard(&way);
        let (free_bytes, compress, class) = (0, Compress::Never, Some(way.class()));
        let fresh = false;
        let accept = Accept { transfer_id: open.transfer_id, free_bytes, compress, class, fresh };
        send(link, Frame::Accept(accept)).await?;
        let cancel = self.cancel_for(None);
        let compress = open.compress.and(self.engine.0.config.settings.transfer.compress.into());
        let context = self.context(link, (meter, open), cancel, (compress, &way));
        let _capped = self.engine.0.cap(link, &self.us.site, &context.share);
        let running = Box::pin(run_source(context, files, open.fresh, None));
        let ended = self.engine.0.lanes.run(open.priority, running).await;
        let how = match &ended {
            Ok(SourceEnd::Published(published, _)) => Ended::Published(published.root),
            Ok(SourceEnd::Stopped(why)) => Ended::Stopped(why),
            Err(why) => Ended::Lost(why),
        };
        let closed = crossing::end(&way, how).await;
        if let Ok(SourceEnd::Stopped(Stop::Local(why))) = &ended {
            crossing::tell(link, why).await;
        }
        self.receipt(link, closed).await;
        match ended {
            Ok(SourceEnd::Published(..)) => Ok("done".to_owned()),
            Ok(SourceEnd::Stopped(why)) => Err(stopped(why)),
            Err(lost) => {
                reading.comes_back();
                self.lost(link, lost).await
            }
        }
    }

    pub(super) async fn receipt(&self, link: &NodeLink, closed: Option<Closed>) {
        if let (Some(_), Ok(border)) = (&closed, self.engine.border()) {
            receipts::exchange(&border, link, closed).await;
        }
    }

    pub(super) async fn lost(&self, link: &NodeLink, lost: Lost) -> Result<String, Failure> {
        match lost {
            Lost::Link(error) => Err(Failure::new("link", error.to_string())),
            Lost::Cancelled if *self.stopping.borrow() => {
                refuse(link, Failure::new("stopping", "the node stops")).await
            }
            Lost::Cancelled => {
                let detail = "a newer session of the same node took over";
                refuse(link, Failure::new("conflict", detail)).await
            }
        }
    }

    /// A signal that is given when the node stops, or when a writer is taken over from.
    pub(super) fn cancel_for(
        &self,
        writer: Option<watch::Receiver<bool>>,
    ) -> watch::Receiver<bool> {
        let mut stopping = self.stopping.subscribe();
        let Some(mut writer) = writer else { return stopping };
        let (signal, cancel) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {}
                taken = writer.wait_for(|stop| *stop) => if taken.is_err() { return },
                () = signal.closed() => return,
            }
            signal.send_replace(true);
        });
        cancel
    }

    /// What `status` tells.
    pub(super) fn status(&self) -> NodeStatus {
        let slab = &self.engine.0.slab;
        let mut status = NodeStatus {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            running: self.engine.0.registry.running(),
            recent: self.engine.0.registry.recent(),
            index_chunks: self.root.index.stats().map_or(0, |stats| stats.chunks),
            leases_out: (slab.leases_out() as u64, slab.leases() as u64),
            disk_free_bytes: self.root.tree.free_bytes().unwrap_or(0),
            valid_until_s: self.engine.identity().map_or(0, |it| it.expires_at().as_secs()),
            roles: self.engine.border().map_or(0, |border| border.roles_version()),
            problems: self.engine.problems(),
        };
        status.bound();
        status
    }

    /// What `peer` is told of that: one of another site learns of its own transfers only.
    pub(super) fn status_for(&self, peer: &Peer) -> NodeStatus {
        let mut status = self.status();
        if peer.site != self.us.site {
            let with_it = |snapshot: &Snapshot| snapshot.peer == peer.node.as_str();
            status.running.retain(with_it);
            status.recent.retain(|(snapshot, _)| with_it(snapshot));
            status.problems.clear();
        }
        status
    }
}

async fn keep_time(meter: Arc<TransferMeter>, began: Instant) {
    loop {
        meter.elapsed_ms.set(began.elapsed().as_millis() as u64);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) fn stopped(stop: Stop) -> Failure {
    match stop {
        Stop::Refused { failure, .. } | Stop::Violation(failure) | Stop::Local(failure) => failure,
    }
}

pub(super) async fn send(link: &NodeLink, frame: Frame) -> Result<(), Failure> {
    link.send(frame.encode()).await.map_err(|e| Failure::new("link", e.to_string()))
}

pub(super) async fn refuse<T>(link: &NodeLink, failure: Failure) -> Result<T, Failure> {
    let retry = failure.code == "stopping" || failure.is_no_descriptors();
    let Failure { code, detail } = failure.clone();
    send(link, Frame::Refuse { code, detail, retry }).await?;
    Err(failure)
}
