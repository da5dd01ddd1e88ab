//! Classes, as people write them.

use toml_edit::Value;

use super::setting::{Raw, Rule, Setting, Wrong, quoted};
use crate::base::Class;

impl Setting for Class {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        raw.text().and_then(|text| text.parse().ok()).ok_or_else(|| raw.wrong(rule))
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}

/// A list in the file, or words between commas in a variable or flag.
impl Setting for Vec<Class> {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        let list: Option<Self> = match raw {
            Raw::Toml { value: Value::Array(list), .. } => {
                list.iter().map(|one| one.as_str()?.parse().ok()).collect()
            }
            other => match other.text() {
                Some("") => Some(Self::new()),
                Some(text) => text.split(',').map(|one| one.trim().parse().ok()).collect(),
                None => None,
            },
        };
        list.ok_or_else(|| raw.wrong(rule))
    }

    fn toml(&self) -> Option<String> {
        let list: Vec<String> = self.iter().map(|class| quoted(class.as_str())).collect();
        Some(format!("[{}]", list.join(", ")))
    }
}

impl Setting for Option<Vec<Class>> {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        Vec::read(raw, rule).map(Some)
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().and_then(Setting::toml)
    }
}
