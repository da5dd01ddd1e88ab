//! The local admin address: `/metrics` for Prometheus and `/healthz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::server::Shared;
use super::{Error, Exit};

/// The HTTP server; it ends when this is dropped.
pub(super) struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    pub(super) async fn bind(address: SocketAddr, shared: Arc<Shared>) -> Result<Self, Error> {
        let failed = |e: std::io::Error| {
            Error::new("admin", Exit::Failed, format!("cannot listen on {address}: {e}"))
                .hint("--admin takes another ADDR:PORT, or `off`")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the admin address no longer answers");
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let status = shared.status();
    let (out, all) = status.leases_out;
    let text = shared.engine.0.registry.prometheus(out, all, status.index_chunks);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.healthy.load(Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}
