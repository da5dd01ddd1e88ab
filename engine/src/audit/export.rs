//! One view over several logs: JSON Lines and CSV that no text in a record can forge.
//!
//! A record is a row of cells, the same for both forms. Raw bytes and free texts are shown as
//! `portway --json` shows paths, without loss: control characters, characters that turn the
//! direction of text or break lines, and bytes that are not UTF-8 as `\xNN`, a backslash as `\\`.

use std::io::{self, Write};

use super::error::ReadError;
use super::extents::ExtentSet;
use super::names::LogId;
use super::receipt::Party;
use super::record::{Crossing, Entry, Record};
use crate::base::{FileTime, human, utc};

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON object in each line; cells that are empty are left out, but for the transfer.
    JsonLines,
    /// RFC 4180 with a line of names, every cell quoted. A cell that a spreadsheet would take for a
    /// formula, or that begins with `'`, has a `'` before it.
    Csv,
}

/// Why an export ended.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl ExportError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read(error) => error.hint(),
            Self::Write(_) => "check where the output goes",
        }
    }
}

/// The names of the cells, in order. They are a contract: names are only added, at the end.
pub(super) const COLUMNS: [&str; 41] = [
    "time",
    "node",
    "log",
    "seq",
    "kind",
    "transfer",
    "who",
    "action",
    "verdict",
    "ending",
    "reason",
    "path",
    "root",
    "class",
    "from_site",
    "from_node",
    "to_site",
    "to_node",
    "link",
    "transport",
    "policy",
    "policy_digest",
    "bytes",
    "extents",
    "left_extents",
    "left_digest",
    "from_log",
    "from_seq",
    "from_key",
    "to_log",
    "to_seq",
    "to_key",
    "key",
    "size",
    "tree",
    "signature",
    "stop",
    "wire_sent",
    "wire_received",
    "price_per_gb",
    "currency",
];

enum Cell {
    Number(u64),
    Text(String),
    /// JSON.
    Extents(String),
}

/// The cells of one record, by name, as an export has them.
pub struct Row([Option<Cell>; COLUMNS.len()]);

impl Row {
    fn set(&mut self, name: &'static str, cell: Cell) {
        let at = COLUMNS.iter().position(|column| *column == name);
        debug_assert!(at.is_some(), "{name} is a column");
        if let Some(at) = at {
            self.0[at] = Some(cell);
        }
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.set(name, Cell::Number(number));
    }

    /// A text of our own, or one that its type keeps plain.
    fn plain(&mut self, name: &'static str, text: &impl ToString) {
        self.set(name, Cell::Text(text.to_string()));
    }

    /// Bytes from anywhere.
    fn raw(&mut self, name: &'static str, bytes: &[u8]) {
        self.set(name, Cell::Text(shown(bytes)));
    }

    /// The text of a cell; `None` where it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        let at = COLUMNS.iter().position(|column| *column == name)?;
        match self.0[at].as_ref()? {
            Cell::Number(number) => Some(number.to_string()),
            Cell::Text(text) | Cell::Extents(text) => Some(text.clone()),
        }
    }

    /// The number in a cell, if it has one.
    pub fn count(&self, name: &str) -> Option<u64> {
        let at = COLUMNS.iter().position(|column| *column == name)?;
        match self.0[at] {
            Some(Cell::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// All cells, as a line of an export in JSON has them, without the end of the line.
    pub fn to_json(&self) -> String {
        self.json().trim_end().to_owned()
    }

    fn of(entry: &Entry, node: &str, log: LogId) -> Self {
        let mut row = Self([const { None }; COLUMNS.len()]);
        row.plain("time", &rfc3339(entry.at));
        row.raw("node", node.as_bytes());
        row.plain("log", &log);
        row.number("seq", entry.seq);
        row.plain("kind", &entry.record.kind());
        if let Some(transfer) = entry.record.transfer() {
            row.plain("transfer", &transfer);
        }
        if let Some(crossing) = entry.record.crossing() {
            row.crossing(crossing);
        }
        row.record(&entry.record);
        row
    }

    fn crossing(&mut self, crossing: &Crossing) {
        self.raw("who", crossing.who.as_str().as_bytes());
        self.raw("path", crossing.path.as_bytes());
        if let Some(root) = crossing.root {
            self.plain("root", &root);
        }
        self.plain("class", &crossing.class);
        self.plain("from_site", &crossing.from.site);
        self.plain("from_node", &crossing.from.node);
        self.plain("to_site", &crossing.to.site);
        self.plain("to_node", &crossing.to.node);
        self.plain("link", &crossing.link);
        self.plain("transport", &crossing.transport);
        self.number("policy", crossing.policy.number);
        self.plain("policy_digest", &crossing.policy.digest);
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Key(key) => self.plain("key", &key.key),
            Record::Seal(seal) => {
                self.number("size", seal.size);
                self.plain("tree", &seal.root);
                self.plain("signature", &seal.signature);
            }
            Record::Witness(witness) => {
                self.raw("who", witness.node.as_str().as_bytes());
                self.plain("from_log", &witness.checkpoint.log);
                self.plain("key", &witness.key);
                self.number("size", witness.checkpoint.size);
                self.plain("tree", &witness.checkpoint.root);
                self.plain("signature", &witness.checkpoint.signature);
            }
            Record::Decision(decision) => {
                self.plain("action", &decision.action);
                self.plain("verdict", &decision.verdict);
                self.raw("reason", decision.reason.as_str().as_bytes());
            }
            Record::Start(_) => {}
            Record::Progress(progress) => {
                self.number("bytes", progress.bytes);
                self.set("extents", Cell::Extents(extents(&progress.left)));
            }
            Record::Stop(stop) => {
                self.plain("ending", &stop.ending);
                self.raw("reason", stop.reason.as_str().as_bytes());
                self.number("bytes", stop.bytes);
                self.set("extents", Cell::Extents(extents(&stop.left)));
            }
            Record::Dispute(dispute) => {
                self.number("stop", dispute.stop);
                self.raw("reason", dispute.reason.as_str().as_bytes());
            }
            Record::Meter(meter) => {
                self.number("wire_sent", meter.sent);
                self.number("wire_received", meter.received);
                if let Some(tariff) = meter.tariff {
                    self.plain("price_per_gb", &tariff.price.0);
                    self.plain("currency", &tariff.currency);
                }
            }
            Record::Receipt(receipt) => {
                let body = &receipt.body;
                self.raw("path", body.path.as_bytes());
                if let Some(root) = body.root {
                    self.plain("root", &root);
                }
                self.plain("class", &body.class);
                self.number("bytes", body.bytes);
                self.number("left_extents", body.left.extents);
                self.plain("left_digest", &body.left.digest);
                self.party(["from_site", "from_node", "from_log", "from_key"], &body.from);
                self.number("from_seq", body.from.seq);
                self.party(["to_site", "to_node", "to_log", "to_key"], &body.to);
                self.number("to_seq", body.to.seq);
                let signatures = format!("{}{}", receipt.from_signature, receipt.to_signature);
                self.plain("signature", &signatures);
            }
        }
    }

    fn party(&mut self, [site, node, log, key]: [&'static str; 4], party: &Party) {
        self.plain(site, &party.place.site);
        self.plain(node, &party.place.node);
        self.plain(log, &party.log);
        self.plain(key, &party.key);
    }

    fn json(&self) -> String {
        let mut out = String::from("{");
        for (name, cell) in COLUMNS.iter().zip(&self.0) {
            let value = match cell {
                Some(Cell::Number(number)) => number.to_string(),
                Some(Cell::Text(text)) => quoted(text),
                Some(Cell::Extents(json)) => json.clone(),
                None if *name == "transfer" => "null".to_owned(),
                None => continue,
            };
            let comma = if out.len() > 1 { "," } else { "" };
            out.extend([comma, "\"", name, "\":", &value]);
        }
        out + "}\n"
    }

    fn csv(&self) -> String {
        let cells = self.0.iter().map(|cell| match cell {
            Some(Cell::Number(number)) => csv_cell(&number.to_string()),
            Some(Cell::Text(text) | Cell::Extents(text)) => csv_cell(text),
            None => csv_cell(""),
        });
        cells.collect::<Vec<_>>().join(",") + "\r\n"
    }
}

/// Text that stays in its place whatever it says; see the module's words.
pub(super) fn shown(bytes: &[u8]) -> String {
    // Of the characters that break lines these two are no control characters.
    human::escaped(bytes)
        .replace('\u{2028}', "\\xe2\\x80\\xa8")
        .replace('\u{2029}', "\\xe2\\x80\\xa9")
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A cell of CSV, quoted. What a spreadsheet would take for a formula is made text by an apostrophe
/// (OWASP, "CSV Injection"); the wide forms of the signs count in some languages.
pub fn csv_cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\'', '＝', '＋', '－', '＠']);
    format!("\"{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""))
}

fn extents(left: &ExtentSet) -> String {
    let one = |(object, extent): (&crate::base::RelPath, crate::base::Extent)| {
        let path = quoted(&shown(object.as_bytes()));
        format!("{{\"object\":{path},\"offset\":{},\"len\":{}}}", extent.offset, extent.len)
    };
    format!("[{}]", left.iter().map(one).collect::<Vec<_>>().join(","))
}

/// A time in UTC as RFC 3339 has it, to the nanosecond.
pub(super) fn rfc3339(at: FileTime) -> String {
    let whole = utc::text(at.secs);
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), at.nanos)
}

/// A log that is being exported.
struct Source<I> {
    entries: I,
    next: Option<Entry>,
    node: String,
    log: LogId,
}

impl<I: Iterator<Item = Result<Entry, ReadError>>> Source<I> {
    /// Gives the next record, and looks for the one after it.
    fn take(&mut self) -> Result<Option<Entry>, ReadError> {
        let following = self.entries.next().transpose()?;
        let taken = std::mem::replace(&mut self.next, following);
        if let Some(Entry { record: Record::Key(key), .. }) = &taken {
            key.node.as_str().clone_into(&mut self.node);
            self.log = key.log;
        }
        Ok(taken)
    }
}

/// Several logs as one: each in its own order, together by the wall clock.
pub struct Export<I> {
    sources: Vec<Source<I>>,
}

impl<I: Iterator<Item = Result<Entry, ReadError>>> Export<I> {
    /// One view over these logs, each given from its first record on.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn new(logs: impl IntoIterator<Item = I>) -> Result<Self, ReadError> {
        let mut sources = Vec::new();
        for entries in logs {
            let (node, log) = (String::new(), LogId::default());
            let mut source = Source { entries, next: None, node, log };
            source.take()?;
            sources.push(source);
        }
        Ok(Self { sources })
    }

    /// Writes the records of which `wanted` is true; gives their number.
    ///
    /// # Errors
    /// A log cannot be read, or `out` not written.
    pub fn write(
        self,
        out: &mut dyn Write,
        format: Format,
        wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<u64, ExportError> {
        if format == Format::Csv {
            let names: Vec<String> = COLUMNS.iter().map(|name| csv_cell(name)).collect();
            write!(out, "{}\r\n", names.join(","))?;
        }
        self.each(wanted, |row| {
            let line = if format == Format::Csv { row.csv() } else { row.json() };
            out.write_all(line.as_bytes()).map_err(ExportError::from)
        })
    }

    /// Gives each record of which `wanted` is true; gives their number.
    ///
    /// # Errors
    /// A log cannot be read, or those of `see`.
    pub fn each<E: From<ReadError>>(
        mut self,
        mut wanted: impl FnMut(&Entry) -> bool,
        mut see: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut count = 0;
        loop {
            let time = |source: &Source<I>| source.next.as_ref().map(|entry| entry.at);
            let due = self.sources.iter_mut().filter(|source| source.next.is_some());
            let Some(source) = due.min_by_key(|source| time(source)) else { break };
            let Some(entry) = source.take()? else { break };
            if !wanted(&entry) {
                continue;
            }
            see(&Row::of(&entry, &source.node, source.log))?;
            count += 1;
        }
        Ok(count)
    }
}
