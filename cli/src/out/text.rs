//! The same for people.

mod audit;

use std::fmt::Write;

use portway::api::Outcome;
use portway::base::human;
use portway::metrics::{Phase, Snapshot};

use super::progress::Meter;

pub(crate) use audit::{audit_line, reconciled};

/// Characters of the bar.
const BAR_CHARS: f64 = 20.0;
/// Most objects or entries that a summary lists by name.
const LISTED_MAX: usize = 10;

/// One line that tells how a transfer stands.
pub(crate) fn progress(now: &Snapshot, meter: &Meter, bar: bool) -> String {
    let done = now.bytes_done();
    let mut line = String::new();
    match now.phase {
        Phase::Connecting => push(&mut line, &format!("connecting to {}", now.peer)),
        Phase::Queued => push(&mut line, "queued"),
        Phase::Publishing => push(&mut line, "publishing"),
        Phase::Moving | Phase::Ended => {}
    }
    if !now.waits_for.is_empty() {
        push(&mut line, &format!("waits: {}", now.waits_for));
    }
    if now.bytes_total > 0 {
        push(&mut line, &format!("{:>3} %", percent(done, now.bytes_total) as u64));
        if bar {
            let full = (percent(done, now.bytes_total) / 100.0 * BAR_CHARS).min(BAR_CHARS) as usize;
            push(&mut line, &format!("[{:.<20}]", "#".repeat(full)));
        }
    }
    if now.files_total == 0 && !line.is_empty() {
        return line;
    }
    let more = if now.scan_done { "" } else { "+" };
    push(&mut line, &format!("{} of {}{more}", human::bytes(done), human::bytes(now.bytes_total)));
    push(&mut line, &human::rate(meter.sent_per_s()));
    if let Some(left) = meter.eta_s(now).filter(|_| now.phase == Phase::Moving) {
        push(
            &mut line,
            &format!("{} left", human::seconds(left.ceil().max(1.0)).replace(".00", "")),
        );
    }
    let files = (human::count(now.files_done), human::count(now.files_total));
    push(&mut line, &format!("{}/{}{more} files", files.0, files.1));
    for (name, bytes) in [("deduplicated", now.bytes_deduplicated), ("resumed", now.bytes_resumed)]
    {
        if bytes > 0 {
            push(&mut line, &format!("{name} {:.0} %", percent(bytes, done)));
        }
    }
    if now.files_failed > 0 {
        push(&mut line, &format!("{} failed", human::count(now.files_failed)));
    }
    push(&mut line, &now.transport);
    line
}

/// How a transfer ended.
pub(crate) fn summary(verb: &str, place: &str, outcome: &Outcome) -> String {
    let mut text = format!(
        "{verb} {}, {}, {place} in {}{}\n",
        human::files(outcome.files),
        human::bytes(outcome.bytes_total),
        human::seconds(outcome.elapsed_s),
        if outcome.verified { ", verified" } else { ", NOT verified" },
    );
    let rate = human::rate(outcome.bytes_sent as f64 / outcome.elapsed_s.max(1e-3));
    let wire = format!("{} on the wire, {rate}", human::bytes(outcome.bytes_wire));
    let rows = [
        ("sent", outcome.bytes_sent, wire.as_str()),
        ("deduplicated", outcome.bytes_deduplicated, ""),
        ("resumed", outcome.bytes_resumed, ""),
    ];
    for (name, bytes, more) in rows {
        let share = percent(bytes, outcome.bytes_total);
        let row = format!("  {name:<12} {:>9} {share:>5.1} %  {more}", human::bytes(bytes));
        let _ = writeln!(text, "{}", row.trim_end());
    }
    if outcome.bytes_discarded > 0 {
        let _ =
            writeln!(text, "  {:<12} {:>9}", "discarded", human::bytes(outcome.bytes_discarded));
    }
    let _ = writeln!(text, "  root         {}", outcome.root);
    let _ = write!(text, "  transfer     {} ({})", outcome.transfer_id, outcome.transport);
    for name in &outcome.removed {
        let _ = write!(text, "\n  removed      {name}");
    }
    listed(&mut text, "kept", &outcome.kept, outcome.kept.len() as u64);
    listed(&mut text, "skipped", &outcome.skipped, outcome.skipped_total);
    listed(&mut text, "failed", &outcome.failed, outcome.failed_total);
    text
}

fn listed(text: &mut String, name: &str, list: &[(String, String)], total: u64) {
    for (path, why) in list.iter().take(LISTED_MAX) {
        let _ = write!(text, "\n  {name:<12} {path}: {why}");
    }
    let more = total.saturating_sub(list.len().min(LISTED_MAX) as u64);
    if more > 0 {
        let _ = write!(text, "\n  {name:<12} and {} more", human::count(more));
    }
}

fn push(line: &mut String, part: &str) {
    if !line.is_empty() && !part.is_empty() {
        line.push_str("  ");
    }
    line.push_str(part);
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
pub(crate) mod test;
