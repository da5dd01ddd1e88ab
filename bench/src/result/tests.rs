//! The format of results: what is written is read, the schema file is that of the types.

use super::*;

fn document() -> Document {
    let mut row = Row::of_runs("disk write", "direct", Unit::BytesPerSecond, vec![3e9, 1e9, 2e9]);
    row.size = Some(2 << 20);
    row.cpu_s_per_gb = Some(0.02);
    row.latency_s = Some(Latency { p50: 1e-4, p90: 2e-4, p99: 4e-4, p999: 1e-3 });
    let mut hour = Row::of_runs("utilisation", "internet", Unit::Share, vec![0.5, 0.25]);
    hour.at = Some(167);
    let notes = vec!["the disk limits".to_owned()];
    Document::new(Kind::Local, 1_700_000_000, notes, vec![row, hour])
}

#[test]
fn what_is_written_is_read() {
    let document = document();
    assert_eq!(Document::parse(&document.to_json().unwrap()).unwrap(), document);
}

#[test]
fn a_row_has_median_and_spread_of_its_runs() {
    let row = Row::of_runs("digest", "", Unit::BytesPerSecond, vec![3.0, 1.0, 2.0]);
    assert_eq!((row.low, row.median, row.high), (1.0, 2.0, 3.0));
    assert_eq!(row.runs, [3.0, 1.0, 2.0]);
    let even = Row::of_runs("digest", "", Unit::BytesPerSecond, vec![4.0, 1.0, 2.0, 3.0]);
    assert!((even.median - 2.5).abs() < 1e-12);
}

#[test]
fn this_machine_is_told() {
    let machine = Machine::here();
    assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
    assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
}

#[test]
fn the_schema_file_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/result.schema.json");
    let schema = schemars::schema_for!(Document);
    let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    // The order of members depends on what other crates ask of serde_json.
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let (file, schema) = (value(&std::fs::read_to_string(&path).unwrap()), value(&schema));
    assert_eq!(file, schema, "run this test with UPDATE_SCHEMA=1, and look at the difference");
}

#[test]
fn other_documents_are_refused_with_the_reason() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(document()).unwrap();
        change(&mut value);
        format!("{:#}", Document::parse(&value.to_string()).unwrap_err())
    };
    let other = refused(&|value| value["schema"] = 2.into());
    assert!(other.starts_with("it has schema 2, and this program reads 1: measure again"));
    let none = refused(&|value| value["schema"] = serde_json::Value::Null);
    assert_eq!(none, "it has no number `schema`");
    let unit = refused(&|value| value["results"][0]["unit"] = "GB".into());
    assert!(unit.starts_with("unknown variant `GB`, expected one of `bytes/s`"), "{unit}");
    let field = refused(&|value| value["speed"] = 1.into());
    assert!(field.starts_with("unknown field `speed`"), "{field}");
    let empty = refused(&|value| value["results"][1]["runs"] = serde_json::json!([]));
    assert_eq!(empty, "the row `utilisation internet` has no runs");
    let order = refused(&|value| value["results"][0]["median"] = 9e9.into());
    assert!(order.ends_with("not between its low and high"), "{order}");
}
