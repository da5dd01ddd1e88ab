//! `portway doctor`.

use portway::api::{Error, Exit, Finding, Level};

use crate::args::OneNode;
use crate::facade::address;
use crate::out::Out;
use crate::out::event::Event;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: &OneNode) -> Result<Exit, Error> {
    let config = context.config()?;
    let node = args.node.as_deref().map(|text| address::node(text, &config)).transpose()?;
    let findings = context.engine(&config)?.doctor(node).await?;
    for finding in &findings {
        context.out.event(&Event::Finding(finding));
        context.out.text(&text(context.out, finding));
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let message = format!("{failed} of {} checks failed", findings.len());
    Err(Error::new("doctor", Exit::Failed, message).hint("each failed check says how to fix it"))
}

pub(super) fn text(out: &Out, finding: &Finding) -> String {
    let word = match finding.level {
        Level::Ok => out.paint("32", "ok  "),
        Level::Warn => out.paint("33", "warn"),
        Level::Fail => out.paint("31", "FAIL"),
    };
    let mut text = format!("{word}  {:<12} {}", finding.check, finding.finding);
    if !finding.fix.is_empty() {
        text.push_str("\n                   ");
        text.push_str(if finding.level == Level::Ok { "note: " } else { "fix: " });
        text.push_str(&finding.fix);
    }
    text
}
