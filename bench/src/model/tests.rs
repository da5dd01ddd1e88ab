//! The model as a whole: what a plan keeps, whatever the workload, and the example's plan.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::need::Demand;
use super::plan::OptionPlan;
use super::unit::Size;
use super::*;

const OPTIONS: &str = "
[[option]]
name = 'internet'
kind = 'internet'
rate = '1 Gb/s'
rtt = '20 ms'
loss = '0.1 %'
billing = '95th-percentile'
commit = '100 Mb/s'
per_mbit = '1 USD/Mb/s'
[[option]]
name = 'dedicated'
kind = 'dedicated'
rate = '1 Gb/s'
rtt = '10 ms'
billing = 'flat'
port = '500 USD/month'
per_gb = '0.01 USD/GB'
";

fn workload(head: &str, flows: &str) -> Workload {
    Workload::parse(&format!("name = 'x'\n{head}\n{flows}\n{OPTIONS}")).unwrap()
}

fn error(head: &str, flows: &str) -> String {
    let workload = workload(head, flows);
    format!("{:#}", Plan::make(&workload, Engine::default()).expect_err(flows))
}

const NIGHTLY: &str = "
[[flow]]
name = 'nightly'
size = '1 TB'
nodes = 10
every = '24 h'
first = 'Mon 20:00'
window = '20:00-06:00'
deadline = '10 h'
";

#[test]
fn a_nightly_transfer_needs_its_bytes_in_its_night() {
    let workload = workload("headroom = '0 %'\nweeks = 2", NIGHTLY);
    let plan = Plan::make(&workload, Engine::default()).unwrap();
    let least = 10e12 / (10.0 * 3600.0);
    assert!((plan.required.worst / least - 1.0).abs() < 2e-4, "{:?}", plan.required);
    assert!((plan.required.median / least - 1.0).abs() < 2e-4);
    // 2.22 Gb/s of content: three links of 1 Gb/s, each of which carries 0.93.
    let links: Vec<u32> = plan.options.iter().map(|option| option.months[0].links).collect();
    assert_eq!(links, [3, 3]);
    let usage = plan.options[1].usage.as_ref().unwrap();
    assert!(usage.hours.iter().enumerate().all(|(hour, weeks)| {
        let night = (20..24).contains(&(hour % 24)) || hour % 24 < 6;
        night || weeks[2].abs() < 1e-9
    }));
    let month = plan.options[1].months[0];
    let days = 365.25 / 12.0;
    // What is not there at the end of the last Sunday is counted on the first Monday.
    let sent = days * 10e12 * plan.options[1].link.sent();
    assert!((month.bytes / sent - 1.0).abs() < 1e-6, "{} {sent}", month.bytes);
    assert!((month.price - (1500.0 + 0.01 * sent / 1e9)).abs() < 0.1);
}

#[test]
fn percentile_billing_forgets_the_highest_five_per_cent() {
    // An hour a day is 4.2 % of all samples; two hours are more than 5 %.
    let flow = |bytes: &str| {
        format!(
            "[[flow]]\nname = 'f'\nsize = '{bytes}'\nevery = '24 h'\nfirst = 'Mon 01:00'\n\
             deadline = '6 h'\n"
        )
    };
    let price = |bytes| {
        let workload = workload("weeks = 2\nmonths = 0", &flow(bytes));
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        assert_eq!(plan.options[0].months[0].links, 1);
        plan.options[0].months[0].price
    };
    assert!((price("400 GB") - 100.0).abs() < 1e-9, "the commit");
    // 932 Mb/s of content and its headers fill 972 Mb/s.
    assert!((price("800 GB") - 972.0).abs() < 3.0, "{}", price("800 GB"));
}

#[test]
fn set_up_is_paid_once_for_each_link_and_counts_in_the_choice() {
    let plan_of = |setup: &str| {
        let head = "weeks = 2\nmonths = 12\ngrowth = '10 %/month'\nheadroom = '0 %'";
        let mut workload = workload(head, NIGHTLY);
        workload.options[0].setup = Some(super::unit::Once::read(setup).unwrap());
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        let option = &plan.options[0];
        let months: Vec<_> =
            option.months.iter().map(|month| (month.links, month.once, month.price)).collect();
        let even = plan.break_evens[0].growth;
        (months, option.total(12).unwrap(), plan.advised.unwrap(), even)
    };
    let (free, total_free, advised, even_free) = plan_of("0 USD");
    assert_eq!(advised, 0);
    let (paid, total, _, _) = plan_of("1000 USD");
    let links = free[12].0;
    assert!(links > 3, "it grows");
    assert!((paid[0].1 - 3000.0).abs() < 1e-9, "three links at first");
    let once: f64 = paid.iter().map(|month| month.1).sum();
    assert!((once - 1000.0 * f64::from(links)).abs() < 1e-6, "each link once");
    assert!((total - total_free - once).abs() < 1e-6);
    let months_cost_the_same =
        paid.iter().zip(&free).all(|(a, b)| a.0 == b.0 && (a.2 - b.2).abs() < 1e-9);
    assert!(months_cost_the_same);
    let (_, _, advised, even) = plan_of("1000000 USD");
    assert_eq!(advised, 1, "so dear that the other one is the cheaper");
    assert!(even.is_some() && even_free.is_none_or(|free| even < Some(free)), "{even:?}");
}

#[test]
fn with_a_spare_link_no_loss_is_noticed() {
    let plan_of = |redundancy| {
        let workload = workload(&format!("redundancy = '{redundancy}'\nweeks = 4"), NIGHTLY);
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        let option = &plan.options[1];
        (option.months[0].links, option.loss.clone().unwrap())
    };
    let (links, loss) = plan_of("N");
    assert_eq!((links, loss.left), (3, 2));
    assert_eq!(loss.late.len(), loss.transfers, "every night is late");
    let (links, loss) = plan_of("N+1");
    assert_eq!((links, loss.left), (4, 3));
    assert!(loss.late.is_empty());
}

#[test]
fn deadlines_that_no_link_can_keep_are_contradictions() {
    let shut = error("", &NIGHTLY.replace("first = 'Mon 20:00'", "first = 'Mon 07:00'"));
    assert_eq!(
        shut,
        "the workload contradicts itself:
  flow `nightly`, window: what comes Mon 07:00 is due Mon 17:00, and until then the window is shut; \
         give it a longer `deadline` or a wider `window`"
    );
    let slow = error("node = { disk_write = '20 MB/s' }", NIGHTLY);
    assert_eq!(
        slow,
        "the workload contradicts itself:
  flow `nightly`, deadline: 10 TB of content that comes Sun 20:00 is not there in 10 h on any link, \
         because the target's disk writes 20 MB/s, of all its bytes; give it a longer `deadline`, or \
         faster or more `nodes` with less each"
    );
}

#[test]
fn an_option_that_is_not_enough_says_why() {
    let slow = NIGHTLY.replace("nodes = 10", "nodes = 1");
    let workload = workload("node = { window = '1 MiB' }", &slow);
    let plan = Plan::make(&workload, Engine::default()).unwrap();
    let reasons = reason::sentences(&plan);
    // 1 MiB in 20 ms is 419 Mb/s; 222 Mb/s and headroom are needed.
    assert!(plan.options.iter().all(|option| !option.months.is_empty()), "{reasons:#?}");
    let bound = "`internet`: 2.5 MB must be under way to fill a link (1 Gb/s x 20 ms), more than the \
                 window of 1.05 MB: one session has at most 419 Mb/s; `limits.window_mib = 3` at the \
                 receiver lifts that.";
    assert!(reasons.iter().any(|reason| reason == bound), "{reasons:#?}");
    let less = super::tests::workload("node = { window = '0.4 MiB' }", &slow);
    let plan = Plan::make(&less, Engine::default()).unwrap();
    assert!(plan.options[0].months.is_empty());
    let reasons = reason::sentences(&plan);
    let no = "`internet`: no rate of it is enough, `nightly` of Sun 20:00 (1 TB, due Mon 06:00, alone \
              on the links then) is late: its sessions cannot go faster.";
    assert!(reasons.iter().any(|reason| reason == no), "{reasons:#?}");
}

#[test]
fn the_same_seed_gives_the_same_page_and_another_does_not() {
    let flows = "[[flow]]\nname = 'f'\nsize = '1 GB'\nevery = '1 h'\nrandom = true\n";
    let page = |seed: u64| {
        let workload = workload(&format!("seed = {seed}\nweeks = 4"), flows);
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        text::page(&plan, &reason::sentences(&plan))
    };
    assert_eq!(page(1), page(1));
    assert_ne!(page(1), page(2));
}

#[test]
fn the_example_has_its_plan() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sizing");
    let mut names: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.extension().is_some_and(|it| it == "toml")) {
        let workload = Workload::parse(&std::fs::read_to_string(name).unwrap()).unwrap();
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        let stem = name.file_stem().unwrap().to_string_lossy().into_owned();
        insta::assert_snapshot!(stem, text::page(&plan, &reason::sentences(&plan)));
    }
}

#[test]
fn a_plan_for_better_weeks_needs_less() {
    let flows =
        "[[flow]]\nname = 'f'\nsize = '5 GB'\nevery = '2 h'\nrandom = true\ndeadline = '1 h'\n";
    let least = |plan_for: &str| {
        let workload = workload(&format!("plan_for = '{plan_for}'\nweeks = 20"), flows);
        let demand = Demand::new(&workload, Engine::default()).unwrap();
        demand.smallest_link(&workload.options[0]).unwrap().rate
    };
    let [median, p95, worst] = ["median", "p95", "worst"].map(least);
    assert!(median < p95 && p95 < worst, "{median} {p95} {worst}");
}

/// A workload of a few flows, of sizes that are multiplied by `factor`.
fn random_flows(sizes: &[(u32, u32, u32)], factor: f64) -> String {
    let mut text = String::new();
    for (number, (gb, hours, nodes)) in sizes.iter().enumerate() {
        let _ = write!(
            text,
            "[[flow]]\nname = 'f{number}'\nsize = '{} GB'\nnodes = {nodes}\nevery = '{hours} h'\n\
             jitter = '10 min'\nspread = '20 %'\nwindow = '08:00-22:00'\ndeadline = '26 h'\n",
            f64::from(*gb) * factor
        );
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn more_bytes_never_need_less(
        sizes in proptest::collection::vec((1_u32..400, 3_u32..48, 1_u32..4), 1..4),
        factor in 1.0_f64..4.0,
        seed in 0_u64..1000,
    ) {
        let plan = |factor, redundancy: &str| {
            let head = format!("seed = {seed}\nweeks = 3\nmonths = 0\nredundancy = '{redundancy}'");
            let workload = workload(&head, &random_flows(&sizes, factor));
            let demand = Demand::new(&workload, Engine::default()).unwrap();
            let required = demand.required();
            let links: Vec<_> =
                workload.options.iter().map(|option| demand.links(option, 1.0, 1)).collect();
            (required, links)
        };
        let ((less, fewer), (more, many)) = (plan(1.0, "N"), plan(factor, "N"));
        prop_assert!(more.worst >= less.worst * (1.0 - 3e-4));
        prop_assert!(more.median >= less.median * (1.0 - 3e-4));
        prop_assert!(less.median <= less.p95 && less.p95 <= less.worst);
        for (few, many) in fewer.iter().zip(&many) {
            prop_assert!(many.is_none_or(|many| few.is_some_and(|few| few <= many)));
        }
    }

    #[test]
    fn a_spare_link_and_growth_never_take_fewer_links_or_a_lower_flat_price(
        sizes in proptest::collection::vec((1_u32..400, 3_u32..48, 1_u32..4), 1..3),
        growth in 0_u32..30,
        seed in 0_u64..1000,
    ) {
        let months = |redundancy: &str| {
            let head = format!(
                "seed = {seed}\nweeks = 2\nmonths = 4\ngrowth = '{growth} %/month'\n\
                 redundancy = '{redundancy}'"
            );
            let workload = workload(&head, &random_flows(&sizes, 1.0));
            let plan = Plan::make(&workload, Engine::default()).unwrap();
            let months = |option: &OptionPlan<'_>| option.months.clone();
            plan.options.iter().map(months).collect::<Vec<_>>()
        };
        let (n, spare) = (months("N"), months("N+1"));
        for (n, spare) in n.iter().zip(&spare) {
            prop_assert!(spare.len() <= n.len());
            prop_assert!(n.iter().zip(spare).all(|(n, spare)| spare.links == n.links + 1));
            for pair in n.windows(2) {
                prop_assert!(pair[0].links <= pair[1].links);
                prop_assert!(pair[0].bytes <= pair[1].bytes * (1.0 + 1e-9));
            }
        }
        // Percentile billing has no such rule: with a second link a burst is shorter.
        for pair in n[1].windows(2) {
            prop_assert!(pair[0].price <= pair[1].price * (1.0 + 1e-9));
        }
    }

    #[test]
    fn what_is_sent_is_what_came(
        sizes in proptest::collection::vec((1_u32..400, 3_u32..48, 1_u32..4), 1..4),
        seed in 0_u64..1000,
    ) {
        let workload =
            workload(&format!("seed = {seed}\nweeks = 8\nmonths = 0"), &random_flows(&sizes, 1.0));
        let plan = Plan::make(&workload, Engine::default()).unwrap();
        let came: f64 = sizes
            .iter()
            .map(|(gb, hours, nodes)| f64::from(*gb * *nodes) * 1e9 / f64::from(*hours))
            .sum::<f64>() * 365.25 * 2.0;
        let month = plan.options[1].months[0];
        let sent = month.bytes / plan.options[1].link.sent();
        // Sizes vary by 20 %, and what comes late in a week moves in the next.
        prop_assert!((sent / came - 1.0).abs() < 0.25, "{} {}", Size(sent), Size(came));
    }
}
