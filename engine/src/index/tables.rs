//! The index's small tables, and what is done to them inside a transaction.

use redb::{Error, ReadableTable, TableDefinition, WriteTransaction};

use super::FileChunks;
use super::chunks::RunRow;
use super::rows::Block;
use crate::base::Digest;

/// Version of the tables below, of runs, and of entries.
pub(super) const VERSION: u64 = 2;

/// Single numbers. Its shape stays the same in every version.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Base to the files numbered in it so far and its path.
pub(super) const BASES: TableDefinition<u32, (u32, &[u8])> = TableDefinition::new("bases");
/// A base's path to the base.
pub(super) const BASE_IDS: TableDefinition<&[u8], u32> = TableDefinition::new("base_ids");
/// Base and first file (see [`file_key`]) to a [`Block`] of paths relative to the base.
pub(super) const FILES: TableDefinition<u64, &[u8]> = TableDefinition::new("files");
/// The runs of the table of chunks, from the newest, 0, on: the name and the seal of each.
pub(super) const RUNS: TableDefinition<u32, (u64, &[u8])> = TableDefinition::new("runs");

pub(super) fn insert_files<'a>(
    txn: &WriteTransaction,
    base: u32,
    first: u32,
    files: impl Iterator<Item = &'a FileChunks<'a>>,
) -> Result<(), Error> {
    let mut table = txn.open_table(FILES)?;
    let mut first = first;
    let mut block = Block::default();
    for file in files {
        if block.push(&file.path) {
            table.insert(file_key(base, first), &block.encode()[..])?;
            first += block.files;
            block = Block::default();
        }
    }
    if block.files > 0 {
        table.insert(file_key(base, first), &block.encode()[..])?;
    }
    Ok(())
}

pub(super) fn remove_files(txn: &WriteTransaction, base: u32) -> Result<(), Error> {
    let all = file_key(base, 0)..=file_key(base, u32::MAX);
    Ok(txn.open_table(FILES)?.retain_in(all, |_, _| false)?)
}

/// A base's count of files and path, copied out of the table.
pub(super) fn base_row(
    bases: &impl ReadableTable<u32, (u32, &'static [u8])>,
    base: u32,
) -> Result<Option<(u32, Vec<u8>)>, Error> {
    Ok(bases.get(base)?.map(|row| {
        let (files, path) = row.value();
        (files, path.to_vec())
    }))
}

/// The runs that are listed, newest first.
pub(super) fn runs(txn: &WriteTransaction) -> Result<Vec<RunRow>, Error> {
    let table = txn.open_table(RUNS)?;
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (_, row) = row?;
        let (id, seal) = row.value();
        rows.push((id, Digest::from_slice(seal).ok_or_else(damaged)?));
    }
    Ok(rows)
}

/// Lists `rows` in the place of what was listed before.
pub(super) fn replace_runs(txn: &WriteTransaction, rows: &[RunRow]) -> Result<(), Error> {
    let mut table = txn.open_table(RUNS)?;
    table.retain(|_, _| false)?;
    for (rank, (id, seal)) in (0..).zip(rows) {
        table.insert(rank, (*id, &seal.0[..]))?;
    }
    Ok(())
}

pub(super) fn file_key(base: u32, file: u32) -> u64 {
    u64::from(base) << 32 | u64::from(file)
}

pub(super) fn damaged() -> Error {
    Error::Corrupted("a row does not decode".to_owned())
}
