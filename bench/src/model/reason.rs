//! Why each number is what it is, in sentences.

use std::fmt::Write as _;

use super::calendar;
use super::need::Required;
use super::plan::{BreakEven, OptionPlan, Plan};
use super::price;
use super::share::Late;
use super::unit::{LinkRate, Monthly, Once, Share, Size, Time};
use super::workload::{Billing, PlanFor, Redundancy, Workload};

/// A rate of content, as links are sold.
pub(super) fn rate(bytes_per_s: f64) -> LinkRate {
    LinkRate::of_bytes(bytes_per_s)
}

/// `2 links`.
fn counted(count: u32, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// All sentences: the advice first, then what it rests on.
pub(crate) fn sentences(plan: &Plan<'_>) -> Vec<String> {
    let mut all = vec![advice(plan), required(&plan.required, plan.workload)];
    for option in &plan.options {
        all.extend(about(option, plan.workload));
    }
    all.extend(plan.break_evens.iter().map(|found| break_even(found, plan.workload)));
    all
}

fn advice(plan: &Plan<'_>) -> String {
    let Some(option) = plan.advised.map(|number| &plan.options[number]) else {
        return "No option is enough: see why below, and offer more links, faster ones, or longer \
                deadlines."
            .into();
    };
    let workload = plan.workload;
    let (first, last) = (option.months[0], option.months[option.months.len() - 1]);
    let name = &option.option.name;
    let order = format!("Order {} of `{name}`", counted(first.links, "link"));
    let spare = match workload.redundancy {
        Redundancy::N => "",
        Redundancy::NPlus1 => ", one of them spare",
    };
    let until = option.months.len() - 1;
    let growing =
        option.months.windows(2).enumerate().filter(|(_, pair)| pair[1].links > pair[0].links);
    let growing: Vec<String> = growing
        .map(|(month, pair)| format!("{} from month {}", pair[1].links, month + 1))
        .collect();
    let growing =
        if growing.is_empty() { String::new() } else { format!("; {}", growing.join(", ")) };
    match option.total(workload.months) {
        Some(total) => format!(
            "{order}{spare}{growing}: {} now and {} in month {until}, {}{:.0} USD in all, the least \
             of the options that are enough.",
            Monthly(first.price),
            Monthly(last.price),
            once(option),
            total
        ),
        None => format!(
            "{order}{spare}{growing}: {} now, but from month {} on its {} are not enough; no option \
             lasts longer.",
            Monthly(first.price),
            until + 1,
            counted(option.option.links_max, "link")
        ),
    }
}

/// What is paid once, if there is such a price.
fn once(option: &OptionPlan<'_>) -> String {
    let once = option.once();
    if once > 0.0 { format!("{} once for set-up, ", Once(once)) } else { String::new() }
}

fn late(late: &Late, workload: &Workload) -> String {
    let beside = match late.beside {
        0 => "alone on the links then".to_owned(),
        1 => "beside one other transfer".to_owned(),
        count => format!("beside {count} other transfers"),
    };
    format!(
        "`{}` of {} ({}, due {}, {beside})",
        workload.flows[late.job.flow].name,
        calendar::shown(late.job.at),
        Size(late.job.bytes),
        calendar::shown(late.job.due)
    )
}

fn required(required: &Required, workload: &Workload) -> String {
    let which = match required.critical {
        Some(found) => format!(": with less, {} would be late", late(&found, workload)),
        None => String::new(),
    };
    let asked = match workload.plan_for {
        PlanFor::Median => ("the median week", required.median),
        PlanFor::P95 => ("the p95 week", required.p95),
        PlanFor::Worst => ("the worst week", required.worst),
    };
    format!(
        "Content needs {} in the worst week (number {} of {}){which}. Planned for is {}: {}, and {} \
         with {} of headroom.",
        rate(required.worst),
        required.worst_week,
        workload.weeks,
        asked.0,
        rate(asked.1),
        rate(asked.1 * (1.0 + workload.headroom.0)),
        workload.headroom
    )
}

/// What there is to say of an option.
fn about(plan: &OptionPlan<'_>, workload: &Workload) -> Vec<String> {
    let (option, name) = (plan.option, &plan.option.name);
    let mut all = vec![format!("`{name}`: {}.", plan.link.why())];
    all.push(format!("`{name}`: {}.", links(plan, workload)));
    let window = workload.node.window.unwrap_or(Size(33_554_432.0));
    let product = plan.link.product();
    if product > window {
        let mib = (product.0 / 1_048_576.0).ceil();
        all.push(format!(
            "`{name}`: {product} must be under way to fill a link ({} x {}), more than the window of \
             {window}: one session has at most {}; `limits.window_mib = {mib}` at the receiver \
             lifts that.",
            option.rate,
            option.rtt,
            rate(window.0 / option.rtt.0)
        ));
    }
    for (flow, limit) in workload.flows.iter().zip(&plan.limits) {
        if limit.rate < plan.link.usable() * (1.0 - 1e-9) {
            all.push(format!(
                "`{name}`: a session of `{}` has at most {}, less than a link: {}.",
                flow.name,
                rate(limit.rate),
                limit.why
            ));
        }
    }
    if let Some(usage) = &plan.usage {
        let (hour, share) = price::busiest(usage);
        let mut text = format!(
            "`{name}`: the busiest hour is {}, with {} of the links used in the median week",
            calendar::shown(hour as f64 * calendar::HOUR_S),
            Share(share)
        );
        if option.billing == Billing::Percentile {
            let _ = write!(
                text,
                "; {} is the 95th percentile of all five minutes, the rate that is billed (36 h a \
                 month may be above it)",
                usage.p95
            );
        }
        all.push(text + ".");
    }
    all.extend(plan.loss.as_ref().map(|_| format!("`{name}`: {}.", loss(plan, workload))));
    all
}

fn links(plan: &OptionPlan<'_>, workload: &Workload) -> String {
    let smallest = plan.smallest.map(|link| link.rate);
    let Some(month) = plan.months.first() else {
        let all = counted(plan.option.links_max, "link");
        let why = plan.short.map_or_else(
            || "N+1 needs one more".to_owned(),
            |found| format!("{} is late", late(&found, workload)),
        );
        return match smallest {
            Some(least) => {
                format!("{all} of it are not enough, {why}; a single link of {least} would be")
            }
            None => format!("no rate of it is enough, {why}: its sessions cannot go faster"),
        };
    };
    let needed = month.links - u32::from(workload.redundancy == Redundancy::NPlus1);
    let mut text = counted(needed, "link");
    text += if needed == 1 { " is enough" } else { " are enough" };
    if let Some(found) = &plan.short {
        let _ = write!(
            text,
            "; with one fewer and {} of headroom {} is late",
            workload.headroom,
            late(found, workload)
        );
    }
    if let Some(least) = smallest {
        let _ = write!(text, "; the least single link that would do is {least}");
    }
    if workload.redundancy == Redundancy::NPlus1 {
        text += "; N+1 adds one";
    }
    text
}

/// What the loss of a link does.
pub(super) fn loss(plan: &OptionPlan<'_>, workload: &Workload) -> String {
    let Some(loss) = &plan.loss else { return "-".into() };
    if loss.left == 0 {
        let per_day = plan.months[0].bytes / plan.link.sent() / 30.4375;
        return format!(
            "when its only link is lost nothing moves until it is back, and {} of content a day wait",
            Size(per_day)
        );
    }
    let left = if loss.left == 1 {
        "the other one still keeps".to_owned()
    } else {
        format!("the other {} still keep", loss.left)
    };
    let worst = loss.late.iter().max_by(|a, b| a.by_s.total_cmp(&b.by_s));
    match worst {
        None => format!("when a link is lost, {left} every deadline of all weeks"),
        Some(worst) => format!(
            "when a link is lost, {} of {} transfers are late, `{}` by up to {}",
            loss.late.len(),
            loss.transfers,
            workload.flows[worst.job.flow].name,
            Time(worst.by_s)
        ),
    }
}

fn break_even(found: &BreakEven, workload: &Workload) -> String {
    let pair = format!("`{}` against `{}`", found.dedicated, found.internet);
    let Some(growth) = found.growth else {
        return format!(
            "{pair}: the dedicated option is dearer, or not enough, at all traffic looked at (1/64 to \
             64 times of today's)."
        );
    };
    let when = match growth.ln() / (1.0 + workload.growth.0).ln() {
        _ if growth <= 1.0 => "already today".to_owned(),
        month if month.is_finite() => format!("in month {:.0} at this growth", month.ceil()),
        _ => "never without growth".to_owned(),
    };
    format!(
        "{pair}: from {} a month on ({growth:.2} times of today's, {when}) the dedicated option costs \
         no more.",
        Size(found.bytes)
    )
}
