//! Reading: the tables as of one moment, and the way from a chunk to its places.

use std::collections::HashMap;

use redb::{Error, ReadOnlyTable, ReadTransaction};

use super::rows::{Block, Spot, Spots};
use super::tables::{BASES, CHUNKS, FILES, Live, base_row, damaged, decode, file_key};
use super::{PLACES_MAX, Place};
use crate::base::{Digest, RelPath};

/// The tables as of one moment.
pub(super) struct View {
    pub(super) bases: ReadOnlyTable<u32, (u32, &'static [u8])>,
    files: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) chunks: ReadOnlyTable<u128, &'static [u8]>,
    base_paths: HashMap<u32, Option<RelPath>>,
    /// The file that was looked up last: neighbouring chunks tend to share one.
    last_file: Option<((u32, u32), Option<RelPath>)>,
}

impl View {
    pub(super) fn new(txn: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self {
            bases: txn.open_table(BASES)?,
            files: txn.open_table(FILES)?,
            chunks: txn.open_table(CHUNKS)?,
            base_paths: HashMap::new(),
            last_file: None,
        })
    }

    pub(super) fn places(&mut self, digest: &Digest) -> Result<Vec<Place>, Error> {
        let Some(spots) = self.spots(digest)? else { return Ok(Vec::new()) };
        let mut places = Vec::with_capacity(PLACES_MAX);
        for spot in spots.iter() {
            if let Some(path) = self.path(&spot)? {
                places.push(Place { path, offset: spot.offset, len: spot.len });
            }
        }
        Ok(places)
    }

    /// The spots of `digest` that stand for `place`.
    pub(super) fn spots_at(&mut self, digest: &Digest, place: &Place) -> Result<Vec<Spot>, Error> {
        let Some(spots) = self.spots(digest)? else { return Ok(Vec::new()) };
        let mut at = Vec::new();
        for spot in spots.iter() {
            let same = spot.offset == place.offset && spot.len == place.len;
            if same && self.path(&spot)?.as_ref() == Some(&place.path) {
                at.push(spot);
            }
        }
        Ok(at)
    }

    /// Of up to `rows` chunks from `start` on, those with a spot in a dropped base, and where to go
    /// on, or `None` at the end.
    pub(super) fn dead(
        &self,
        start: u128,
        rows: usize,
    ) -> Result<(Option<u128>, Vec<u128>), Error> {
        let mut live = Live::new(&self.bases);
        let mut dead = Vec::new();
        for (seen, row) in self.chunks.range(start..)?.enumerate() {
            let (short, spots) = row?;
            if seen == rows {
                return Ok((Some(short.value()), dead));
            }
            let spots = decode(spots.value())?;
            if live.only(&spots)? != Some(spots) {
                dead.push(short.value());
            }
        }
        Ok((None, dead))
    }

    fn spots(&self, digest: &Digest) -> Result<Option<Spots>, Error> {
        self.chunks.get(digest.short())?.map(|row| decode(row.value())).transpose()
    }

    /// The path of a spot's file from the root, or `None` if its base was dropped.
    fn path(&mut self, spot: &Spot) -> Result<Option<RelPath>, Error> {
        let key = (spot.base, spot.file);
        if let Some((last, path)) = &self.last_file
            && *last == key
        {
            return Ok(path.clone());
        }
        let path = self.look_up(spot)?;
        self.last_file = Some((key, path.clone()));
        Ok(path)
    }

    fn look_up(&mut self, spot: &Spot) -> Result<Option<RelPath>, Error> {
        if !self.base_paths.contains_key(&spot.base) {
            let row = base_row(&self.bases, spot.base)?;
            let path = row.map(|(_, path)| RelPath::from_bytes(&path)).transpose();
            self.base_paths.insert(spot.base, path.map_err(|_| damaged())?);
        }
        let Some(Some(base)) = self.base_paths.get(&spot.base) else { return Ok(None) };
        let upto = file_key(spot.base, spot.file);
        let Some(row) = self.files.range(file_key(spot.base, 0)..=upto)?.next_back() else {
            return Err(damaged());
        };
        let (first, block) = row?;
        let below =
            Block::path(block.value(), (upto - first.value()) as u32).ok_or_else(damaged)?;
        // A base may have moved so deep that some of its files have no path any more.
        Ok(base.join_path(&below).ok())
    }
}
