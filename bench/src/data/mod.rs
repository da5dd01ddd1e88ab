//! Deterministic data sets: checkpoints, shards and what follows them, small files, an odd tree.

mod checkpoint;
mod files;
mod tokens;
mod tree;
pub(crate) mod values;
mod write;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A safetensors checkpoint of several files, bf16 weights and fp32 optimizer state.
    Ckpt,
    /// The checkpoint after it: a quarter of the tensors changed, one adapter inserted.
    CkptNext,
    /// JSON-lines shards, 2,000 of about 256 KiB.
    Shards,
    /// Shards of documents, 16 of JSON lines and 16 of two-byte tokens, of about 8 MiB each.
    Tokens,
    /// The same with 3 % of the documents replaced by others of another length.
    TokensNext,
    /// Small binary files, 20,000 of 4 KiB.
    Small,
    /// One file of `--bytes` that is a hole, but for 64 pieces of 1 MiB.
    Sparse,
    /// An odd tree: empty files, holes, links, modes, old times, names that are not UTF-8.
    Tree,
}

/// Arguments of `data`.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Which data set
    kind: Kind,
    /// Directory to make it in; it must be empty or not exist
    outdir: PathBuf,
    /// Size of a checkpoint (plain bytes, or with KiB, MiB, GiB)
    #[arg(long, value_parser = crate::size::parse, default_value = "1GiB")]
    bytes: u64,
    /// Number of files; a checkpoint counts its fp32 file [default: 4, 2,000, 32 or 20,000]
    #[arg(long)]
    files: Option<u64>,
    /// Size of one shard or small file [default: 256KiB, 8MiB or 4KiB]
    #[arg(long, value_parser = crate::size::parse)]
    file_bytes: Option<u64>,
    /// Share of a checkpoint that is fp32, in a file of its own
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(0..=90))]
    fp32_percent: u64,
    /// Seed; the same seed makes the same bytes, names and times
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Regular files.
    pub(crate) files: u64,
    /// Their content in bytes.
    pub(crate) bytes: u64,
    /// Content that the set before does not hold (all of it where there is none before).
    pub(crate) new_bytes: u64,
}

/// Makes a data set and prints one line of JSON.
pub(crate) fn run(args: &DataArgs) -> Result<bool> {
    let made = make(args)?;
    let Made { files, bytes, new_bytes } = made;
    println!("{{\"files\":{files},\"bytes\":{bytes},\"new_bytes\":{new_bytes}}}");
    Ok(true)
}

/// Makes a data set with the default arguments of the command line, but for those given.
pub(crate) fn simple(
    kind: Kind,
    outdir: PathBuf,
    bytes: u64,
    files: u64,
    seed: u64,
) -> Result<Made> {
    let files = Some(files).filter(|files| *files > 0);
    make(&DataArgs { kind, outdir, bytes, files, file_bytes: None, fp32_percent: 25, seed })
}

fn make(args: &DataArgs) -> Result<Made> {
    let out = &args.outdir;
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let mut entries = std::fs::read_dir(out)?;
    anyhow::ensure!(entries.next().is_none(), "{} is not empty", out.display());
    let next = matches!(args.kind, Kind::CkptNext | Kind::TokensNext);
    let step = write::first_step(args.seed) + if next { write::DAY_S } else { 0 };
    let made = match args.kind {
        Kind::Ckpt | Kind::CkptNext => {
            let size = checkpoint::Size {
                bytes: args.bytes,
                files: args.files.unwrap_or(4),
                fp32_percent: args.fp32_percent,
            };
            checkpoint::make(out, size, args.seed, step, next)?
        }
        Kind::Shards => {
            let file_bytes = args.file_bytes.unwrap_or(256 << 10);
            files::shards(out, args.files.unwrap_or(2000), file_bytes, args.seed)?
        }
        Kind::Tokens | Kind::TokensNext => {
            let size = (args.files.unwrap_or(32), args.file_bytes.unwrap_or(8 << 20));
            tokens::make(out, size, args.seed, step, next)?
        }
        Kind::Small => {
            let file_bytes = args.file_bytes.unwrap_or(4 << 10);
            files::small(out, args.files.unwrap_or(20_000), file_bytes, args.seed)?
        }
        Kind::Sparse => files::sparse(out, args.bytes, args.seed)?,
        Kind::Tree => return tree::make(out, args.seed),
    };
    write::set_directory_times(out, step)?;
    Ok(made)
}

#[cfg(test)]
mod tests;
