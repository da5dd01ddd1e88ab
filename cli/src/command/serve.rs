//! `portway serve`.

use std::path::{Path, PathBuf};

use portway::api::{Error, Exit};
use portway::config::Config;

use crate::args::Serve;
use crate::facade::ServeOptions;
use crate::notify::notify;
use crate::out::event::Event;
use crate::setup::{Context, shown, told};
use crate::signals::interrupts;

pub(super) async fn run(context: &Context<'_>, args: Serve) -> Result<Exit, Error> {
    let config = context.config()?;
    let options = options(args, &config)?;
    let root = shown(&options.root);
    let mut interrupts = interrupts()?;
    let server = context.engine(&config)?.serve(options).await?;

    let (node, address, admin) = (server.node(), server.listen(), server.admin());
    context.out.event(&Event::Listening {
        address,
        admin,
        node: node.as_str(),
        root: root.clone(),
    });
    context.out.report(&format!("portway: {node} serves {root} on {address}"));
    if let Some(admin) = admin {
        context.out.note(&format!("metrics: http://{admin}/metrics"));
    }
    notify("READY=1");

    let out = context.out;
    let (again, stop_at_once) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        interrupts.recv().await;
        notify("STOPPING=1");
        out.note("portway: stopping; transfers stay resumable; again stops at once");
        // The receiver lives as long as the server runs.
        let _ = again.send(interrupts);
    };
    let second = async {
        match stop_at_once.await {
            Ok(mut interrupts) => drop(interrupts.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = Box::pin(server.run(shutdown)) => ended?,
        () = second => {
            return Err(Error::new("interrupted", Exit::Interrupted, "stopped at once")
                .hint("transfers resume when the node serves again"));
        }
    }
    context.out.event(&Event::Stopped);
    Ok(Exit::Done)
}

fn options(args: Serve, config: &Config) -> Result<ServeOptions, Error> {
    let serve = &config.settings.serve;
    let root = args.root.or_else(|| serve.root.clone()).ok_or_else(|| {
        Error::new("root", Exit::Usage, "there is no directory to serve")
            .hint("give --root DIR, or set serve.root in portway.toml")
    })?;
    Ok(ServeOptions {
        root: directory(&root)?,
        listen: args.listen.unwrap_or(serve.listen),
        admin: args.admin.map_or(serve.admin, |admin| admin.0),
    })
}

/// The absolute path of a directory that is there.
fn directory(root: &Path) -> Result<PathBuf, Error> {
    let refused = |why: &str| {
        Error::new("root", Exit::Usage, format!("{} cannot be served: {why}", shown(root)))
            .hint("serve a directory that is there: mkdir -p makes one")
    };
    let path = std::fs::canonicalize(root).map_err(|error| refused(&told(&error)))?;
    if path.is_dir() { Ok(path) } else { Err(refused("not a directory")) }
}
