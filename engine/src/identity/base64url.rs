//! Base64 with the URL alphabet and without padding (RFC 4648, section 5), read strictly.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The text of `bytes`.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        for i in 0..=group.len() {
            let six = (bits >> (18 - 6 * i)) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

/// The bytes of `text`, or `None` if it is not exactly what [`encode`] makes of some bytes.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut bits = 0;
        for (i, &c) in group.iter().enumerate() {
            bits |= u32::from(value(c)?) << (18 - 6 * i);
        }
        let [_, three @ ..] = bits.to_be_bytes();
        let (kept, rest) = three.split_at(group.len() - 1);
        if rest.iter().any(|&b| b != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn value(c: u8) -> Option<u8> {
    Some(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_rfc_4648_hold_without_padding() {
        for (plain, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
        {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(encode(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn only_the_one_canonical_text_is_read() {
        for bad in ["Z", "Zh", "Zm9", "Zg==", "Z g", "+_8", "-/8", "Zm9vY", "\u{e4}\u{e4}"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
