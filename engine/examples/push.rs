//! Sends a checkpoint to a node and watches it on its way.
//!
//! `cargo run --example push -- ckpt/step-1000 cloud:runs/7/step-1000`, as a node that `portway
//! init` or `portway join` made.

use std::path::PathBuf;
use std::time::Duration;

use portway::api::{Advice, Engine, Error, Keep, Outcome, TransferOptions};

/// Pushes all of `source` or nothing, and keeps the last five checkpoints beside it.
///
/// # Errors
/// Those of a push; what to do about them is printed.
pub(crate) async fn push(engine: &Engine, source: PathBuf, target: &str) -> Result<Outcome, Error> {
    let keep = Some(Keep { last: 5, every: Some(1000) });
    let options = TransferOptions { whole: true, keep, ..TransferOptions::default() };
    let transfer = engine.push(vec![source], engine.remote(target)?, options);
    let mut ended = Box::pin(transfer.clone().wait());
    loop {
        tokio::select! {
            result = &mut ended => {
                if let Err(error) = &result {
                    eprintln!("{error}: {}", match error.advice() {
                        Advice::Retry => "try again later",
                        Advice::Resume => "the same push goes on from here",
                        Advice::Reconfigure => "something must be changed first",
                        Advice::GiveUp => "trying again would not help",
                    });
                }
                return result;
            }
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                let now = transfer.progress();
                eprintln!("{} of {} bytes", now.bytes_done(), now.bytes_total);
            }
        }
    }
}

#[allow(dead_code, reason = "the tests call the function above")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [source, target] = &words[..] else {
        eprintln!("usage: push SOURCE NODE:PATH");
        std::process::exit(2);
    };
    let outcome = push(&Engine::at_home(None)?, source.into(), target).await?;
    println!("published {}, {} bytes sent", outcome.root, outcome.bytes_sent);
    Ok(())
}
