//! `portway audit`.

use std::io::{self, BufWriter, Write};

use portway::api::{AuditFilter, Error, Exit, NodeAddress, PeerReport};
use portway::audit::{Format, Report};
use portway::base::human;

use crate::args::{Audit, AuditCommand, AuditFormat, AuditWhich};
use crate::out::event::Event;
use crate::out::text;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: Audit) -> Result<Exit, Error> {
    let engine = context.engine(&context.config()?)?;
    match args.command {
        AuditCommand::Verify { peer: None } => whole(context, &engine.audit_verify()?),
        AuditCommand::Verify { peer: Some(node) } => {
            let report = engine.audit_verify_with(&NodeAddress::Name(node)).await?;
            return Ok(compared(context, &report));
        }
        AuditCommand::Show { which } if context.out.json() => {
            // The cells are those of an export, in its order.
            engine.audit_show(&filter(which), &mut |row| {
                let cells = row.to_json();
                context.out.raw(&format!("{{\"event\":\"audit_record\",{}", &cells[1..]));
            })?;
        }
        AuditCommand::Show { which } => {
            let shown = engine.audit_show(&filter(which), &mut |row| {
                context.out.raw(&text::audit_line(row));
            })?;
            if shown == 0 {
                context.out.note("no record is about that");
            }
        }
        AuditCommand::Export { format, which } => {
            let format = match format {
                AuditFormat::Jsonl => Format::JsonLines,
                AuditFormat::Csv => Format::Csv,
            };
            let mut out = BufWriter::new(Reader { out: io::stdout().lock(), gone: false });
            let written = engine.audit_export(format, &filter(which), &mut out).and_then(|_| {
                out.flush().map_err(|error| {
                    let message = format!("the export cannot be written: {error}");
                    Error::new("output", Exit::Failed, message).hint("check where the output goes")
                })
            });
            // Who went away had enough.
            if !out.get_ref().gone {
                written?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Whoever reads an export, who may go away.
struct Reader<W> {
    out: W,
    gone: bool,
}

impl<W: Write> Reader<W> {
    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.gone |= error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<W: Write> Write for Reader<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

fn filter(which: AuditWhich) -> AuditFilter {
    let AuditWhich { peer, since, transfer } = which;
    AuditFilter { peer, since, transfer }
}

fn whole(context: &Context<'_>, report: &Report) {
    let (log, root) = (report.log.to_string(), report.checkpoint.root.to_string());
    let (node, records) = (report.node.as_str(), report.records);
    context.out.event(&Event::AuditVerified { node, log: &log, records, root: &root });
    let count = human::count(records);
    context.out.report(&format!(
        "the audit log of {node} is whole: {count} records\n  log   {log}\n  root  {root}"
    ));
}

/// Tells what a comparison found; differences are no error of the program, and the status says so.
fn compared(context: &Context<'_>, report: &PeerReport) -> Exit {
    let out = context.out;
    if let Some(own) = &report.own {
        whole(context, own);
    }
    let (found, peer) = (&report.reconciled, report.peer.to_string());
    for remark in &found.remarks {
        let (transfer, message) = (remark.transfer().to_string(), remark.to_string());
        out.event(&Event::AuditRemark { transfer: &transfer, message: &message });
        out.text(&format!("remark: {message}"));
    }
    for difference in &found.differences {
        let (transfer, message) = (difference.transfer().to_string(), difference.to_string());
        out.event(&Event::AuditDifference { transfer: &transfer, message: &message });
        out.text(&format!("difference: {message}"));
    }
    let theirs = report.theirs.as_ref();
    let log = theirs.map(|theirs| theirs.log.to_string());
    out.event(&Event::AuditReconciled {
        peer: &peer,
        log: log.as_deref(),
        records: theirs.map_or(0, |theirs| theirs.records),
        told: theirs.map_or(0, |theirs| theirs.told),
        held: theirs.and_then(|theirs| theirs.held),
        held_there: report.own.as_ref().map_or(0, |own| own.held as u64),
        transfers: found.transfers,
        receipts: found.signed,
        bytes: found.bytes,
        remarks: found.remarks.len() as u64,
        differences: found.differences.len() as u64,
    });
    out.report(&text::reconciled(report));
    if found.differences.is_empty() { Exit::Done } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails each time with this.
    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        for (kind, gone) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)]
        {
            let mut out = BufWriter::new(Reader { out: Fails(kind), gone: false });
            out.write_all(b"a record").expect("it is kept");
            assert_eq!(out.flush().expect_err("it fails").kind(), kind);
            assert_eq!(out.get_ref().gone, gone, "{kind}");
        }
    }
}
