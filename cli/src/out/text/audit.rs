//! Records of the audit log and comparisons of two, for people.

use portway::api::PeerReport;
use portway::audit::Row;
use portway::base::human;

/// One record: time, kind, outcome, what crossed, class, from and to, dataset, transfer, and why.
pub(crate) fn audit_line(row: &Row) -> String {
    let cell = |name: &str| row.text(name).unwrap_or_default();
    let time = cell("time");
    let time = time.get(..19).unwrap_or(&time).replace('T', " ");
    let first = |names: [&str; 2]| names.map(cell).concat();
    let bytes = row.count("bytes").map_or_else(String::new, human::bytes);
    let way = match (cell("from_site"), cell("to_site")) {
        (from, to) if from.is_empty() || to.is_empty() => cell("who"),
        (from, to) => {
            format!("{from}/{} > {to}/{}", cell("from_node"), cell("to_node"))
        }
    };
    let outcome = first(["verdict", "ending"]);
    let transfer = cell("transfer");
    let line = format!(
        "{time}  {:>6}  {:<8}  {outcome:<11}  {bytes:>9}  {:<12}  {way:<32}  {}  {}{}",
        cell("seq"),
        cell("kind"),
        cell("class"),
        if transfer.is_empty() { "-" } else { &transfer },
        cell("path"),
        match cell("reason") {
            why if why.is_empty() => why,
            why => format!("  ({why})"),
        },
    );
    line.trim_end().to_owned()
}

/// What a comparison came to.
pub(crate) fn reconciled(report: &PeerReport) -> String {
    let (found, node) = (&report.reconciled, &report.peer.node);
    let proof = match &report.theirs {
        None => format!("{node} has no audit log"),
        Some(theirs) => {
            let (told, all) = (human::count(theirs.told), human::count(theirs.records));
            let grown = match theirs.held {
                Some(held) => {
                    format!("it only grew since this node saw {} records", human::count(held))
                }
                None => "this node holds no earlier checkpoint of it".to_owned(),
            };
            format!("{told} of the {all} records of {node} are proven; {grown}")
        }
    };
    let held = report.own.as_ref().map_or(0, |own| own.held);
    let ours = match held {
        0 => format!("{node} holds no checkpoint of the log here"),
        1 => format!("the log here has the records of the checkpoint of it that {node} holds"),
        held => {
            let count = human::count(held as u64);
            format!(
                "the log here has the records of all {count} checkpoints of it that {node} holds"
            )
        }
    };
    let verdict = match found.differences.len() {
        0 => "both logs say the same".to_owned(),
        1 => "the logs differ in one thing".to_owned(),
        count => format!("the logs differ in {} things", human::count(count as u64)),
    };
    let (transfers, signed) = (human::count(found.transfers), human::count(found.signed));
    format!(
        "{verdict}: {transfers} transfers, {signed} sessions signed by both, {} ({} bytes)\n  {proof}\n  {ours}",
        human::bytes(found.bytes),
        found.bytes
    )
}
