//! Which known words look like one that is not known.

/// Most words that are suggested.
const SUGGESTIONS_MAX: usize = 3;
/// Longest word that is compared, in characters; the cost grows with its square.
const CHARS_MAX: usize = 64;

/// The known words nearest to `word`, at most three: those that it begins, or else those that are
/// at most a third of their letters away.
pub fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let letters: Vec<char> = word.chars().take(CHARS_MAX).collect();
    let far = |candidate: &str| match candidate.strip_prefix(word) {
        Some(_) if !word.is_empty() => 0,
        _ => distance(&letters, candidate),
    };
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|candidate| (far(candidate), candidate))
        .filter(|(far, candidate)| *far <= candidate.chars().count().div_ceil(3))
        .collect();
    near.sort_unstable();
    near.dedup();
    let nearest = near.first().map_or(0, |(far, _)| *far);
    let words = near.into_iter().take_while(|(far, _)| *far == nearest);
    words.take(SUGGESTIONS_MAX).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Levenshtein distance: insertions, deletions and replacements of one character.
fn distance(word: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (i, c) in candidate.chars().take(CHARS_MAX).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, w) in word.iter().enumerate() {
            let replaced = diagonal + usize::from(*w != c);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[word.len()]
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        assert_eq!(similar("slab_mb", ["slab_mib", "window_mib"]), ["slab_mib"]);
        assert_eq!(similar("mtu", ["mtu_max", "gso"]), ["mtu_max"]);
        assert_eq!(similar("clodu", ["cloud", "onprem"]), ["cloud"]);
        assert!(similar("x", ["cloud", "onprem"]).is_empty());
    }
}
