//! Sums are exact, what is shown is rounded up, and hours count open time only.

use proptest::prelude::*;

use super::*;

fn money(text: &str) -> Money {
    text.parse().expect("an amount")
}

fn price(text: &str) -> Price {
    Price(money(text))
}

#[test]
fn amounts_survive_their_text_form() {
    for (text, micros, shown) in [
        ("0", 0, "0.00"),
        ("25", 25_000_000, "25.00"),
        ("0.09", 90_000, "0.09"),
        ("0.1", 100_000, "0.10"),
        ("1.000001", 1_000_001, "1.000001"),
        ("12.3400", 12_340_000, "12.34"),
        ("1000000000000", 1_000_000_000_000_000_000, "1000000000000.00"),
    ] {
        assert_eq!(text.parse(), Ok(Money(micros)));
        assert_eq!(Money(micros).to_string(), shown);
    }
    for bad in ["", ".5", "1.", "-1", "+1", "1e3", "0.0000001", "1,5", "1 ", "1000000000001"] {
        assert_eq!(bad.parse::<Money>(), Err(ParseMoneyError), "{bad:?}");
    }
    assert_eq!("EUR".parse::<Currency>().map(|it| it.to_string()), Ok("EUR".to_owned()));
    for bad in ["", "US", "usd", "USDX", "U\u{e4}"] {
        assert_eq!(bad.parse::<Currency>(), Err(ParseCurrencyError), "{bad:?}");
    }
}

#[test]
fn a_price_is_for_ten_to_the_nine_bytes_and_rounds_up() {
    let tally = |bytes| Tally::of(price("0.09"), bytes).money().to_string();
    assert_eq!(tally(1_000_000_000), "0.09");
    assert_eq!(tally(1_500_000_000_000), "135.00");
    assert_eq!(tally(1), "0.000001");
    assert_eq!(tally(0), "0.00");
    assert_eq!(Tally::of(Price(Money(u64::MAX)), u64::MAX).money(), Money(u64::MAX));
    assert_eq!(price("0").bytes_within(money("1").into()), None);
    assert_eq!(price("0.09").bytes_within(money("0.09").into()), Some(1_000_000_000));
}

#[test]
fn hours_are_of_the_day() {
    let at = |hour: i64, minute: i64| 20_000 * 86_400 + hour * 3600 + minute * 60;
    let night: Hours = "22:00-06:00".parse().expect("hours");
    assert!(night.is_open(at(22, 0)) && night.is_open(at(3, 0)) && !night.is_open(at(6, 0)));
    assert_eq!(night.opens(at(7, 30)), at(22, 0));
    assert_eq!(night.opens(at(23, 30)), at(23, 30));
    // One hour is left, then two in the next night.
    assert_eq!(night.done(at(5, 0), 3 * 3600), at(24, 0));
    assert_eq!(night.done(at(12, 0), 8 * 3600), at(30, 0));
    assert_eq!(night.done(at(12, 0), 8 * 3600 + 60), at(46, 1));
    assert_eq!("00:00-24:00".parse::<Hours>().map(|it| it.to_string()), Ok("00:00-24:00".into()));
    assert_eq!(night.to_string(), "22:00-06:00");
    for bad in ["", "22-06", "22:00", "22:00-22:00", "24:00-06:00", "22:60-06:00", "1:00-02:00"] {
        assert_eq!(bad.parse::<Hours>(), Err(ParseHoursError), "{bad:?}");
    }
}

#[test]
fn a_month_begins_on_its_first_day() {
    let at = crate::base::utc::parse("2026-11-29T15:00:00Z").expect("a time");
    let text = |per: Per| crate::base::utc::text(per.began(at));
    assert_eq!(text(Per::Month), "2026-11-01T00:00:00Z");
    assert_eq!(text(Per::Day), "2026-11-29T00:00:00Z");
    assert_eq!(Per::Transfer.began(at), 0);
}

#[test]
fn larger_packets_carry_more() {
    assert!((path::content_share(1500) - 0.9588).abs() < 1e-4);
    for (loss, filled) in [(0.0, 0.974), (0.0055, 0.960), (0.01, 0.948)] {
        assert!((path::fill(loss) - filled).abs() < 1e-9, "{loss}");
    }
    assert_eq!(path::wire_bytes(0, 1452), 0);
    assert!(path::wire_bytes(1_000_000, 1452) > path::wire_bytes(1_000_000, 8952));
    assert!((1.04..1.05).contains(&(path::wire_bytes(1_000_000, 1452) as f64 / 1e6)));
    let slow = path::transfer_s(1_000_000_000, 12.5e6, 0.05);
    assert!((82.0..84.0).contains(&slow), "{slow}");
}

proptest! {
    #[test]
    fn the_whole_costs_what_its_parts_cost(
        micros in 0_u64..10_000_000,
        parts in prop::collection::vec(0_u64..1 << 50, 0..20),
    ) {
        let price = Price(Money(micros));
        let sum = |parts: &[u64]| {
            parts.iter().fold(Tally::default(), |sum, part| sum.plus(Tally::of(price, *part)))
        };
        let whole = Tally::of(price, parts.iter().sum());
        prop_assert_eq!(sum(&parts), whole);
        prop_assert_eq!(whole.minus(sum(&parts)), Tally::default());
        // Rounding is up, and by less than a millionth.
        let exact = u128::from(micros) * u128::from(parts.iter().sum::<u64>());
        let shown = u128::from(whole.money().0) * 1_000_000_000;
        prop_assert!(shown >= exact && shown - exact < 1_000_000_000);
        prop_assert_eq!(Tally::from_bytes(whole.to_bytes()), whole);
    }

    #[test]
    fn what_an_amount_buys_costs_no_more(micros in 1_u64..10_000_000, amount in 0_u64..1 << 60) {
        let (price, amount) = (Price(Money(micros)), Tally::from(Money(amount)));
        let bytes = price.bytes_within(amount).expect("it has a price");
        prop_assert!(Tally::of(price, bytes) <= amount);
        prop_assert!(bytes == u64::MAX || Tally::of(price, bytes + 1) > amount);
    }

    #[test]
    fn money_is_read_as_it_is_shown(micros in 0_u64..=1_000_000_000_000_000_000) {
        prop_assert_eq!(Money(micros).to_string().parse(), Ok(Money(micros)));
    }

    #[test]
    fn open_time_passes_only_while_it_is_open(
        from in 0_i64..1440, len in 1_i64..=1440, at in 0_i64..400_000, needs in 0_i64..500_000,
    ) {
        let to = (from + len) % 1440;
        prop_assume!(to != from);
        let text = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
        let hours: Hours = text.parse().expect("hours");
        prop_assert_eq!(hours.to_string().parse(), Ok(hours));
        let done = hours.done(at, needs);
        let open = (at..done).filter(|second| hours.is_open(*second)).count();
        prop_assert_eq!(i64::try_from(open), Ok(needs));
        prop_assert!(needs == 0 || hours.is_open(done - 1), "it ends when it is done");
    }
}
