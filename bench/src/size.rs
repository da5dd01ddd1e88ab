//! Sizes on the command line.

/// Reads a number of bytes: plain, or with the binary suffix `KiB`, `MiB` or `GiB`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.iter().find_map(|(name, bits)| Some((text.strip_suffix(name)?, *bits)));
    let (number, bits) = unit.unwrap_or((text, 0));
    let number: u64 = number.trim().parse().map_err(|_| format!("`{text}` is not a size"))?;
    number.checked_mul(1 << bits).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_bounded() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("3MiB"), Ok(3 << 20));
        assert!(parse("3MB").is_err());
        assert!(parse("99999999999GiB").is_err());
    }
}
