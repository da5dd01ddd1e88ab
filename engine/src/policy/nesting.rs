//! A bound on how deep a policy is nested, found before it is parsed: Cedar's parser and the
//! destruction of what it builds recurse, and a stack that is used up ends the process.

/// Deepest nesting of brackets.
const DEPTH_MAX: usize = 32;
/// Most `if`s of a policy: each is nested in the one before, without brackets.
const IFS_MAX: usize = 16;
/// Most operators, member accesses and brackets of a policy: a chain of them is as deep as long.
const OPERATORS_MAX: usize = 1000;

/// Where a text goes beyond a bound, as an offset in bytes, and which one.
pub(super) fn too_deep(text: &str) -> Option<(usize, String)> {
    let (mut depth, mut ifs, mut operators) = (0_usize, 0, 0);
    let mut rest = text.char_indices().peekable();
    while let Some((at, char)) = rest.next() {
        match char {
            '"' => {
                // To the end of the string; a backslash takes the character after it along.
                while let Some((_, char)) = rest.next() {
                    match char {
                        '"' => break,
                        '\\' => drop(rest.next()),
                        _ => {}
                    }
                }
            }
            '/' if rest.peek().is_some_and(|(_, next)| *next == '/') => {
                while rest.next_if(|(_, char)| !matches!(char, '\n' | '\r')).is_some() {}
            }
            '(' | '[' | '{' => (depth, operators) = (depth + 1, operators + 1),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ';' => (ifs, operators) = (0, 0),
            '|' | '&' | '+' | '-' | '*' | '.' | '<' | '>' | '=' | '!' => operators += 1,
            _ if char.is_alphabetic() || char == '_' => {
                let mut end = at + char.len_utf8();
                let word = |char: char| char.is_alphanumeric() || char == '_';
                while let Some((at, char)) = rest.next_if(|(_, char)| word(*char)) {
                    end = at + char.len_utf8();
                }
                match &text[at..end] {
                    "if" => ifs += 1,
                    "in" | "has" | "like" | "is" => operators += 1,
                    _ => {}
                }
            }
            _ => {}
        }
        let bounds = [
            (depth, DEPTH_MAX, "nested brackets"),
            (ifs, IFS_MAX, "ifs"),
            (operators, OPERATORS_MAX, "operators and brackets"),
        ];
        if let Some((_, limit, what)) = bounds.into_iter().find(|(n, limit, _)| n > limit) {
            return Some((at, format!("a policy has at most {limit} {what}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_found_where_it_is_passed() {
        let at = |text: String| too_deep(&text).map(|(at, _)| at);
        for open in ["(", "[", "{"] {
            assert_eq!(at(open.repeat(DEPTH_MAX)), None);
            assert_eq!(at(format!("a {}", open.repeat(DEPTH_MAX + 1))), Some(DEPTH_MAX + 2));
        }
        assert_eq!(at("()[]{}".repeat(DEPTH_MAX)), None);
        assert_eq!(at("if x ".repeat(IFS_MAX)), None);
        assert_eq!(at("if x ".repeat(IFS_MAX + 1)), Some(5 * IFS_MAX));
        for operator in
            ["|", "&", "+", "-", "*", ".", "<", ">", "=", "!", " in", " has", " like", " is"]
        {
            assert_eq!(at(operator.repeat(OPERATORS_MAX)), None, "{operator}");
            assert!(at(operator.repeat(OPERATORS_MAX + 1)).is_some(), "{operator}");
        }
        let (_, words) = too_deep(&"(".repeat(40)).expect("too deep");
        assert_eq!(words, "a policy has at most 32 nested brackets");
    }

    #[test]
    fn strings_comments_names_and_other_policies_do_not_count() {
        let none = |text: &str| assert_eq!(too_deep(text), None, "{text}");
        let deep = "(".repeat(DEPTH_MAX + 1);
        none(&format!("\"{deep}\" // {deep}\n\"\\\"{deep}\\\\\""));
        none(&format!("\"{deep}"));
        none(&"if x;".repeat(IFS_MAX + 1));
        none(&"a.b.c;".repeat(OPERATORS_MAX));
        none(&"iffy in_ _if ".repeat(OPERATORS_MAX + 1));
        assert!(too_deep(&format!("\"\\\\\"{deep}")).is_some());
        assert!(too_deep(&format!("// x\n{deep}")).is_some());
        assert!(too_deep(&format!("/ {deep}")).is_some());
    }
}
