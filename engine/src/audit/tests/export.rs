//! Exports: one line for each record, whatever the records say.

use super::*;
use crate::audit::export::{COLUMNS, rfc3339, shown};
use crate::audit::fuzz;
use serde_json::Value;

fn export(entries: Vec<Vec<Entry>>, format: Format) -> String {
    let logs = entries.into_iter().map(|log| log.into_iter().map(Ok));
    let mut out = Vec::new();
    Export::new(logs).unwrap().write(&mut out, format, |_| true).unwrap();
    String::from_utf8(out).unwrap()
}

/// Reads RFC 4180, where every cell is quoted.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        assert_eq!(c, '"', "a cell begins");
        while let Some(c) = chars.next() {
            match c {
                '"' if chars.peek() == Some(&'"') => cell.extend(chars.next()),
                '"' => break,
                c => cell.push(c),
            }
        }
        row.push(std::mem::take(&mut cell));
        match chars.next() {
            Some(',') => {}
            Some('\r') => {
                assert_eq!(chars.next(), Some('\n'));
                rows.push(std::mem::take(&mut row));
            }
            other => panic!("{other:?} behind a cell"),
        }
    }
    assert!(row.is_empty(), "the last line ends");
    rows
}

#[test]
fn each_record_is_one_line_with_its_transfer() {
    let entries = fuzz::whole_log();
    let lines = export(vec![entries.clone()], Format::JsonLines);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), entries.len());
    for (line, entry) in lines.iter().zip(&entries) {
        assert_eq!(line["seq"], entry.seq);
        assert_eq!(line["kind"], entry.record.kind());
        assert_eq!(line["node"], principal("private", "onprem", "gpu-1").as_str());
        let transfer = entry.record.transfer().map(|id| id.to_string());
        assert_eq!(line["transfer"], transfer.map_or(Value::Null, Value::from));
    }
    let rows = read_csv(&export(vec![entries], Format::Csv));
    assert_eq!(rows[0], COLUMNS);
    for (row, line) in rows[1..].iter().zip(&lines) {
        assert_eq!(row.len(), COLUMNS.len());
        for (name, cell) in COLUMNS.iter().zip(row) {
            let value = match &line[*name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(_) => {
                    assert_eq!(serde_json::from_str::<Value>(cell).unwrap(), line[*name]);
                    continue;
                }
                other => other.to_string(),
            };
            assert_eq!(*cell, value, "{name}");
        }
    }
}

#[test]
fn the_cells_of_a_row_are_what_its_line_has() {
    let rows = Export::new([fuzz::whole_log().into_iter().map(Ok)]).unwrap();
    let each = |row: &Row| -> Result<(), ReadError> {
        let line: Value = serde_json::from_str(&row.to_json()).unwrap();
        for name in COLUMNS {
            assert_eq!(row.count(name), line[name].as_u64(), "{name}");
            assert_eq!(row.text(name).is_none(), line[name].is_null(), "{name}");
        }
        assert_eq!((row.count("none"), row.text("none")), (None, None));
        Ok(())
    };
    rows.each(|_| true, each).unwrap();
}

#[test]
fn the_lines_of_each_kind_are_a_contract() {
    let entries = fuzz::whole_log();
    let text = export(vec![entries], Format::JsonLines);
    let digest = crate::base::Digest::of(text.as_bytes()).to_string();
    let decision = text.lines().nth(3).unwrap();
    let transfer = "\"transfer\":\"00000000000000000000000000000007\"";
    let policy = crate::base::Digest::of(b"policy");
    let expected = format!(
        "{{\"time\":\"2026-06-01T00:00:00.123456789Z\",\
         \"node\":\"spiffe://portway-0123456789abcdef/tier/private/site/onprem/node/gpu-1\",\
         \"log\":\"61206c6f67206f662061206e6f64652e\",\"seq\":3,\"kind\":\"decision\",{transfer},\
         \"who\":\"spiffe://portway-0123456789abcdef/tier/private/site/onprem/node/gpu-1\",\
         \"action\":\"push\",\"verdict\":\"granted\",\
         \"reason\":\"a rule\\\\x0d\\\\x0a\\\"allows\\\" it\\\\xe2\\\\x80\\\\xa8\",\
         \"path\":\"models/\\\\xff\\\\x0a=x,\\\"y\",\"class\":\"internal\",\
         \"from_site\":\"onprem\",\"from_node\":\"gpu-1\",\"to_site\":\"cloud\",\
         \"to_node\":\"gpu-7\",\"link\":\"onprem-cloud\",\"transport\":\"quic\",\"policy\":12,\
         \"policy_digest\":\"{policy}\"}}"
    );
    assert_eq!(decision, expected);
    assert_eq!(
        digest, "19c7b2c7c0e65cc42210b00d288cd199d4e6b52c9bdba2dd39f85f264ecdc567",
        "a change here is a change of the format:\n{text}"
    );
}

#[test]
fn no_text_breaks_a_line_or_becomes_a_formula() {
    let nasty = [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "'=1",
        "＝1",
        "a\nb",
        "a\r\nb",
        "\",\"injected",
        "\"\r\n\"x",
        "\u{2028}\u{2029}\u{85}\u{202e}\x1b[2J\0\x7f",
        "a\\x0ab",
        "\\",
        "{\"seq\":1}",
        "",
    ];
    for text in nasty {
        let Record::Decision(base) = decision(7, Verdict::Denied) else { panic!() };
        let reason = Decision { reason: Reason::new(text), ..base };
        let mut entries = fuzz::whole_log();
        entries.truncate(1);
        entries.push(Entry { seq: 1, at: TIME, record: Record::Decision(reason) });
        let json = export(vec![entries.clone()], Format::JsonLines);
        let lines: Vec<&str> = json.lines().collect();
        assert_eq!(lines.len(), 2, "{text:?}");
        let line: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(unescaped(line["reason"].as_str().unwrap()), text.as_bytes());
        let csv = export(vec![entries], Format::Csv);
        let rows = read_csv(&csv);
        assert_eq!(rows.len(), 3, "{text:?}");
        assert_eq!(rows[2].len(), COLUMNS.len(), "{text:?}");
        let at = COLUMNS.iter().position(|name| *name == "reason").unwrap();
        let cell = &rows[2][at];
        assert!(!cell.starts_with(['=', '+', '-', '@', '＝', '\t', '\r']), "{cell:?}");
        let plain = cell.strip_prefix('\'').unwrap_or(cell);
        assert_eq!(unescaped(plain), text.as_bytes(), "nothing is lost");
        assert!(!csv.contains(['\u{2028}', '\u{2029}', '\u{85}', '\u{1b}', '\0', '\u{7f}']));
    }
}

/// What `shown` says, back as bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                rest = after;
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

proptest::proptest! {
    #[test]
    fn raw_bytes_are_shown_without_loss(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        proptest::prop_assert_eq!(unescaped(&shown(&bytes)), bytes);
    }
}

#[test]
fn several_logs_are_one_view_by_time_each_in_its_own_order() {
    let log = |node: &str, times: &[i64]| -> Vec<Entry> {
        let mut key = fuzz::key_record();
        key.node = principal("private", "onprem", node);
        let first = Entry { seq: 0, at: later(0), record: Record::Key(key) };
        let rest =
            (1..).zip(times).map(|(seq, secs)| Entry { seq, at: later(*secs), record: nth(seq) });
        std::iter::once(first).chain(rest).collect()
    };
    // The clock of the second one was set back.
    let text = export(vec![log("a", &[1, 5, 9]), log("b", &[4, 2, 7])], Format::JsonLines);
    let order: Vec<String> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let node = line["node"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            format!("{node}{}", line["seq"])
        })
        .collect();
    assert_eq!(order, ["a0", "b0", "a1", "b1", "b2", "a2", "b3", "a3"]);
    let logs = [log("a", &[1, 5, 9])].map(|log| log.into_iter().map(Ok));
    let mut out = Vec::new();
    let wanted = |entry: &Entry| entry.at >= later(5);
    let written = Export::new(logs).unwrap().write(&mut out, Format::JsonLines, wanted).unwrap();
    assert_eq!(written, 2);
}

#[test]
fn times_are_dates_of_the_calendar() {
    // From `date -u -d @SECONDS`.
    for (secs, text) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_400, "2000-02-29T00:00:00"),
        (951_868_799, "2000-02-29T23:59:59"),
        (4_107_542_399, "2100-02-28T23:59:59"),
        (4_107_542_400, "2100-03-01T00:00:00"),
        (-1, "1969-12-31T23:59:59"),
        (-2_203_891_200, "1900-03-01T00:00:00"),
        (1_798_761_599, "2026-12-31T23:59:59"),
    ] {
        let shown = rfc3339(FileTime { secs, nanos: 5 });
        assert_eq!(shown, format!("{text}.000000005Z"));
    }
    // No time is a panic.
    for secs in [i64::MIN, i64::MAX] {
        assert!(rfc3339(FileTime { secs, nanos: 0 }).ends_with('Z'));
    }
}
