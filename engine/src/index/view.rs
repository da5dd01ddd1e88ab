//! Reading: the small tables as of one moment, and the way from a spot to a path.

use std::collections::HashMap;

use redb::{Database, Error, ReadOnlyTable, ReadableDatabase};

use super::entry::Spot;
use super::rows::BlockReader;
use super::tables::{BASES, FILES, base_row, damaged, file_key};
use crate::base::RelPath;

/// The tables as of the moment when they are first asked.
pub(super) struct View<'a> {
    db: &'a Database,
    tables: Option<Tables>,
    /// The base that was asked for last, and whether it is there.
    last: Option<(u32, bool)>,
}

impl<'a> View<'a> {
    pub(super) fn new(db: &'a Database) -> Self {
        Self { db, tables: None, last: None }
    }

    pub(super) fn tables(&mut self) -> Result<&mut Tables, Error> {
        if self.tables.is_none() {
            let txn = self.db.begin_read()?;
            self.tables = Some(Tables {
                bases: txn.open_table(BASES)?,
                files: txn.open_table(FILES)?,
                base_paths: HashMap::new(),
                block: None,
            });
        }
        self.tables.as_mut().ok_or_else(damaged)
    }

    /// Whether the base is there.
    pub(super) fn is_live(&mut self, base: u32) -> Result<bool, Error> {
        match self.last {
            Some((last, live)) if last == base => Ok(live),
            _ => {
                let live = self.tables()?.base_path(base)?.is_some();
                self.last = Some((base, live));
                Ok(live)
            }
        }
    }
}

pub(super) struct Tables {
    pub(super) bases: ReadOnlyTable<u32, (u32, &'static [u8])>,
    files: ReadOnlyTable<u64, &'static [u8]>,
    base_paths: HashMap<u32, Option<RelPath>>,
    /// The block that was read last, with its base and first file. Who asks for paths in the order
    /// of the files reads each block once.
    block: Option<(u32, u32, BlockReader)>,
}

impl Tables {
    fn base_path(&mut self, base: u32) -> Result<Option<&RelPath>, Error> {
        if !self.base_paths.contains_key(&base) {
            let row = base_row(&self.bases, base)?;
            let path = row.map(|(_, path)| RelPath::from_bytes(&path)).transpose();
            self.base_paths.insert(base, path.map_err(|_| damaged())?);
        }
        Ok(self.base_paths.get(&base).and_then(Option::as_ref))
    }

    /// The path of a spot's file from the root, or `None` if its base was dropped.
    pub(super) fn path(&mut self, spot: &Spot) -> Result<Option<RelPath>, Error> {
        if spot.is_forgotten() || self.base_path(spot.base)?.is_none() {
            return Ok(None);
        }
        let below = self.path_below(spot.base, spot.file)?;
        // A base may have moved so deep that some of its files have no path any more.
        Ok(self.base_path(spot.base)?.and_then(|base| base.join_path(&below).ok()))
    }

    fn path_below(&mut self, base: u32, file: u32) -> Result<RelPath, Error> {
        let ahead = self.block.as_ref().is_some_and(|(of, first, reader)| {
            *of == base && file.checked_sub(*first).is_some_and(|nth| reader.reaches(nth))
        });
        if !ahead {
            let upto = file_key(base, file);
            let row = self.files.range(file_key(base, 0)..=upto)?.next_back();
            let (first, bytes) = row.ok_or_else(damaged)??;
            let reader = BlockReader::new(bytes.value().to_vec()).ok_or_else(damaged)?;
            self.block = Some((base, first.value() as u32, reader));
        }
        let (_, first, reader) = self.block.as_mut().ok_or_else(damaged)?;
        reader.path(file - *first).ok_or_else(damaged)
    }
}
