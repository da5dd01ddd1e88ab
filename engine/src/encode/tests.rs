//! Round trips, damage, limits, and the bytes of the format.

use proptest::prelude::*;

use super::*;
use crate::base::Digest;
use crate::fuzzing::heap::peak_of;
use crate::sim::rng::Rng;

/// Every encoding there is.
fn encodings() -> Vec<Encoding> {
    let mut all = vec![Encoding::Raw, Encoding::Zstd];
    for width in Width::ALL {
        for shift in 0..width.bytes() {
            let layout = Layout::new(width, shift);
            all.extend([Encoding::Planes(layout), Encoding::Turned(layout)]);
            all.push(Encoding::Delta(layout));
        }
    }
    all
}

/// About normal numbers around zero.
fn normals(count: usize, deviation: f32, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let mut unit = || rng.below(1 << 24) as f32 / (1 << 24) as f32 - 0.5;
    // The sum of twelve has a variance of one.
    (0..count).map(|_| (0..12).map(|_| unit()).sum::<f32>() * deviation).collect()
}

fn fp32(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn bf16(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| ((number.to_bits() >> 16) as u16).to_le_bytes()).collect()
}

fn noise(len: usize) -> Vec<u8> {
    Rng::new(5).bytes(len)
}

/// Encodes, decodes, compares; the length of the encoding, if it paid.
fn round_trip(encoding: Encoding, content: &[u8], base: &[u8]) -> Option<usize> {
    let mut out = vec![0xa5; content.len()];
    let encoded = Encoder::new().encode(encoding, &[content], Some(base), &mut out)?;
    assert_eq!(encoded.encoding, encoding);
    assert!(encoded.len <= content.len() - content.len() / SAVING_PARTS);
    let mut back = vec![0x5a; content.len()];
    let decoded = Decoder::new().decode(encoding, &out[..encoded.len], Some(base), &mut back);
    assert_eq!(decoded, Ok(()));
    assert!(back == content, "{encoding:?} of {} bytes", content.len());
    Some(encoded.len)
}

/// What the encoder makes of content when it chooses itself, as a part of its length.
fn ratio(content: &[u8]) -> (Encoding, f64) {
    let encoding = Encoder::new().probe(&[content]);
    let len = round_trip(encoding, content, &[]).unwrap_or(content.len());
    (encoding, len as f64 / content.len() as f64)
}

#[test]
fn content_comes_back_whatever_its_length_width_and_shift() {
    for len in [0, 1, 2, 3, 7, 8, 9, 255, 256, 257, 4099, 70_001] {
        let content: Vec<u8> = (0..len).map(|i| ((i / 4) % 60) as u8).collect();
        let base: Vec<u8> = content.iter().map(|byte| byte.wrapping_add(3)).collect();
        for encoding in encodings() {
            let len = round_trip(encoding, &content, &base);
            if content.len() < CONTENT_BYTES_MIN || content.len() > 4096 {
                let pays = content.len() > 4096 && encoding != Encoding::Raw;
                assert_eq!(len.is_some(), pays, "{encoding:?} of {}", content.len());
            }
        }
    }
}

#[test]
fn a_whole_lease_comes_back_in_each_encoding() {
    let content = fp32(&normals(CONTENT_BYTES_MAX / 4, 0.02, 1));
    let base = fp32(&normals(CONTENT_BYTES_MAX / 4, 0.02, 2));
    let tried = encodings().into_iter().filter(|e| e.layout().is_none_or(|l| l.shift() < 2));
    let paid = tried.filter(|encoding| round_trip(*encoding, &content, &base).is_some()).count();
    assert!(paid > 5, "{paid}");
}

#[test]
fn content_in_parts_is_encoded_as_in_one() {
    let content = bf16(&normals(100_000, 0.02, 3));
    let parts: Vec<&[u8]> = content.chunks(777).collect();
    let mut encoder = Encoder::new();
    let (mut one, mut many) = (vec![0; content.len()], vec![0; content.len()]);
    assert_eq!(encoder.probe(&[&content]), encoder.probe(&parts));
    let encoding = encoder.probe(&parts);
    let first = encoder.encode(encoding, &[&content], None, &mut one).expect("it pays");
    let second = encoder.encode(encoding, &parts, None, &mut many).expect("it pays");
    assert_eq!(first, second);
    assert!(one[..first.len] == many[..second.len]);
}

#[test]
fn floats_are_as_small_as_their_exponents_allow() {
    let weights = normals(500_000, 0.02, 4);
    let (encoding, part) = ratio(&bf16(&weights));
    assert_eq!(encoding, Encoding::Turned(Layout::new(Width::Two, 0)));
    assert!(part <= 0.70, "{part}");
    let (encoding, part) = ratio(&fp32(&weights));
    assert_eq!(encoding.layout().map(Layout::width), Some(Width::Four));
    assert!(part <= 0.86, "{part}");
    let squares: Vec<f32> = weights.iter().map(|x| x * x).collect();
    let (_, part) = ratio(&fp32(&squares));
    assert!(part <= 0.86, "{part}");
}

#[test]
fn floats_that_begin_at_an_odd_byte_are_as_small() {
    let content = bf16(&normals(100_001, 0.02, 6));
    let (encoding, part) = ratio(&content[1..]);
    assert_eq!(encoding, Encoding::Turned(Layout::new(Width::Two, 1)));
    assert!(part <= 0.70, "{part}");
    let content = fp32(&normals(100_001, 0.02, 6));
    for skip in 1..4 {
        let (_, part) = ratio(&content[skip..]);
        assert!(part <= 0.86, "{part}, {skip} bytes on");
    }
}

#[test]
fn noise_is_raw_and_a_forced_encoding_does_not_pay() {
    let content = noise(1 << 20);
    assert_eq!(Encoder::new().probe(&[&content]), Encoding::Raw);
    for encoding in encodings() {
        assert_eq!(round_trip(encoding, &content, &vec![0; content.len()]), None);
    }
}

#[test]
fn text_and_zeros_are_small() {
    let text = include_str!("mod.rs").repeat(3);
    let (encoding, part) = ratio(text.as_bytes());
    assert!(encoding == Encoding::Zstd && part < 0.4, "{encoding:?} {part}");
    let (_, part) = ratio(&vec![0; CONTENT_BYTES_MAX]);
    assert!(part < 0.001, "{part}");
}

#[test]
fn a_difference_to_an_earlier_step_is_smaller_than_the_content() {
    let before = normals(200_000, 0.02, 7);
    let step = normals(200_000, 1e-5, 8);
    let after: Vec<f32> = before.iter().zip(step).map(|(a, b)| a + b).collect();
    for (width, before, after, most) in [
        (Width::Two, bf16(&before), bf16(&after), 0.2),
        (Width::Four, fp32(&before), fp32(&after), 0.65),
    ] {
        let delta = Encoding::Delta(Layout::new(width, 0));
        let len = round_trip(delta, &after, &before).expect("it pays");
        let part = len as f64 / after.len() as f64;
        assert!(part <= most && part < ratio(&after).1 - 0.1, "{width:?} {part}");
    }
}

#[test]
fn a_difference_needs_a_base_of_its_length() {
    let content = vec![1; 4096];
    let delta = Encoding::Delta(Layout::new(Width::Two, 1));
    let mut out = vec![0; 4096];
    let mut encoder = Encoder::new();
    assert_eq!(encoder.encode(delta, &[&content], None, &mut out), None);
    assert_eq!(encoder.encode(delta, &[&content], Some(&content[1..]), &mut out), None);
    let encoded = encoder.encode(delta, &[&content], Some(&content), &mut out).expect("it pays");
    let mut back = vec![0; 4096];
    for base in [None, Some(&content[1..])] {
        let got = Decoder::new().decode(delta, &out[..encoded.len], base, &mut back);
        assert_eq!(got, Err(DecodeError::Base { want: 4096, have: base.map(<[u8]>::len) }));
    }
}

#[test]
fn of_each_wire_form_there_is_one() {
    let all = [encodings(), vec![Encoding::Blocks]].concat();
    for encoding in &all {
        assert_eq!(Encoding::from_bytes(encoding.to_bytes()), Ok(*encoding));
    }
    let mut known = 0;
    for number in 0..1_u32 << 16 {
        let bytes = [number as u8 & 15, (number >> 4) as u8, (number >> 12) as u8 & 15, 0];
        known += usize::from(Encoding::from_bytes(bytes).is_ok());
    }
    assert_eq!(known, all.len(), "no more than those");
    assert!(Encoding::from_bytes([0, 0, 0, 1]).is_err());
    assert!(Encoding::from_bytes([2, 2, 2, 0]).is_err());
}

#[test]
fn a_layout_moves_with_the_content() {
    for width in Width::ALL {
        for by in 0..20_u64 {
            let moved = Layout::new(width, 1).moved(by);
            assert_eq!((moved.shift() + by as usize) % width.bytes(), 1 % width.bytes());
        }
    }
}

#[test]
fn decoding_fills_exactly_what_is_expected() {
    let content = fp32(&normals(5000, 0.02, 9));
    for encoding in encodings() {
        let mut out = vec![0; content.len()];
        let base = vec![0; content.len()];
        let Some(encoded) = Encoder::new().encode(encoding, &[&content], Some(&base), &mut out)
        else {
            continue;
        };
        for len in [0, 1, content.len() - 1, content.len() + 1, content.len() * 2] {
            let mut back = vec![0; len];
            let base = vec![0; len];
            let got = Decoder::new().decode(encoding, &out[..encoded.len], Some(&base), &mut back);
            assert!(got.is_err(), "{encoding:?} into {len}");
        }
    }
}

#[test]
fn a_bomb_is_an_error_and_takes_no_memory() {
    // Frames of 2 MiB of zeros, sixteen of them, where one is expected.
    let zeros = vec![0; CONTENT_BYTES_MAX];
    let mut out = vec![0; CONTENT_BYTES_MAX];
    let encoded = Encoder::new().encode(Encoding::Zstd, &[&zeros], None, &mut out);
    let frame = &out[..encoded.expect("it pays").len];
    let bomb = frame.repeat(16);
    let mut back = vec![0; CONTENT_BYTES_MAX];
    let (got, peak) = peak_of(|| Decoder::new().decode(Encoding::Zstd, &bomb, None, &mut back));
    assert_eq!(got, Err(DecodeError::Frames { want: CONTENT_BYTES_MAX }));
    assert!(peak < 4096, "{peak}");
    let mut long = vec![0; CONTENT_BYTES_MAX + 1];
    let got = Decoder::new().decode(Encoding::Raw, &bomb, None, &mut long);
    assert_eq!(got, Err(DecodeError::TooLong { len: CONTENT_BYTES_MAX + 1 }));
}

#[test]
fn after_the_first_message_no_memory_is_taken() {
    let content = fp32(&normals(CONTENT_BYTES_MAX / 4, 0.02, 10));
    let parts: Vec<&[u8]> = content.chunks(100_000).collect();
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut out, mut back) = (vec![0; content.len()], vec![0; content.len()]);
    let mut once = || {
        let encoding = encoder.probe(&parts);
        let encoded = encoder.encode(encoding, &parts, None, &mut out).expect("it pays");
        let content = &out[..encoded.len];
        decoder.decode(encoded.encoding, content, None, &mut back).expect("it decodes");
    };
    once();
    assert_eq!(peak_of(once).1, 0);
}

/// Fixed messages decode to fixed bytes, whatever version of zstd wrote them.
#[test]
fn the_format_is_pinned() {
    // Elements 0x3f80 0x3f81, a tail, and a head of one byte; both planes raw.
    let planes = [2, 0, 0, 0, 2, 0, 0, 0, 0xaa, 0xbb, 0x80, 0x81, 0x3f, 0x3f];
    let layout = Layout::new(Width::Two, 1);
    let mut out = [0; 6];
    let mut decode = |encoding, base: &[u8], content: &[u8]| {
        Decoder::new().decode(encoding, content, Some(base), &mut out).map(|()| out)
    };
    let base = [9, 1, 0, 0, 1, 9];
    assert_eq!(
        decode(Encoding::Planes(layout), &base, &planes),
        Ok([0xaa, 0x80, 0x3f, 0x81, 0x3f, 0xbb])
    );
    assert_eq!(
        decode(Encoding::Turned(layout), &base, &planes),
        Ok([0xaa, 0xc0, 0x1f, 0xc0, 0x9f, 0xbb])
    );
    // 0x3f80 is +0x1fc0, 0x3f81 is -0x1fc1.
    assert_eq!(
        decode(Encoding::Delta(layout), &base, &planes),
        Ok([0xaa, 0xc1, 0x1f, 0x3f, 0xe1, 0xbb])
    );
    // A frame of one block that repeats the byte 7 a thousand times, by RFC 8878.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xe8, 0x02, 0x43, 0x1f, 0x00, 0x07];
    let mut out = vec![0; 1000];
    assert_eq!(Decoder::new().decode(Encoding::Zstd, &frame, None, &mut out), Ok(()));
    assert_eq!(Digest::of(&out), Digest::of(&[7; 1000]));
}

proptest! {
    #[test]
    fn any_content_comes_back(
        mut content in prop::collection::vec(any::<u8>(), 0..6000),
        zeroed in 1_usize..8,
        pick in any::<prop::sample::Index>(),
        base in any::<u64>(),
    ) {
        // Regular enough that something is gained.
        content.iter_mut().skip(zeroed - 1).step_by(zeroed).for_each(|byte| *byte &= 3);
        let base = Rng::new(base).bytes(content.len());
        let all = encodings();
        round_trip(all[pick.index(all.len())], &content, &base);
        round_trip(Encoder::new().probe(&[&content]), &content, &base);
    }

    #[test]
    fn splitting_and_joining_are_inverse(
        content in prop::collection::vec(any::<u8>(), 0..20_000),
        width in prop::sample::select(Width::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let count = content.len() / width.bytes();
        let elements = &content[..count * width.bytes()];
        let base = Rng::new(seed).bytes(elements.len());
        for form in [Form::Plain, Form::Turned, Form::Delta(&base)] {
            let mut planes = vec![0; elements.len()];
            Planes(width).split(elements, form, &mut planes);
            if matches!(form, Form::Plain) {
                for (i, byte) in elements.iter().enumerate() {
                    prop_assert_eq!(planes[i % width.bytes() * count + i / width.bytes()], *byte);
                }
            }
            let planes: Vec<&[u8]> = planes.chunks(count.max(1)).collect();
            let mut back = vec![0; elements.len()];
            Planes(width).join(&planes, form, &mut back);
            prop_assert!(back == elements);
        }
    }

    #[test]
    fn damaged_content_never_panics(
        pick in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let content = bf16(&normals(3000, 0.02, 11));
        let all = encodings();
        let encoding = all[pick.index(all.len())];
        let mut out = vec![0; content.len()];
        let base = vec![0; content.len()];
        let encoded = Encoder::new().encode(encoding, &[&content], Some(&base), &mut out);
        let mut wire = out[..encoded.map_or(content.len(), |encoded| encoded.len)].to_vec();
        for (at, byte) in damage {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let mut back = vec![0; content.len()];
        let _ = Decoder::new().decode(encoding, &wire, Some(&base), &mut back);
        let short = &wire[..cut.index(wire.len())];
        prop_assert!(Decoder::new().decode(encoding, short, Some(&base), &mut back).is_err());
    }
}
