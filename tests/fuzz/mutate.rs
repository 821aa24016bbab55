//! Mutations: of bits and bytes, of numbers where flatbuffers and bodies have them, of lengths, and of parts with others.

use rand::Rng;
use rand::rngs::StdRng;

use crate::corpus::Input;

/// Numbers at which parsers stumble.
const NUMBERS: [i64; 27] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    9,
    63,
    64,
    127,
    128,
    255,
    256,
    0x7fff,
    1 << 20,
    1 << 26,
    1 << 29,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 46,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

/// Changes an input in one to four places.
pub(crate) fn input(input: &mut Input, others: &[Input], random: &mut StdRng) {
    // Mostly few: what is changed in many places is mostly refused for the first.
    let most = random.random_range(1..=4);
    for _ in 0..random.random_range(1..=most) {
        if random.random_ratio(1, 40) && !input.is_empty() {
            parts(input, others, random);
        }
        let filled: Vec<_> = (0..input.len()).filter(|part| !input[*part].is_empty()).collect();
        if filled.is_empty() {
            return;
        }
        let victim = filled[random.random_range(0..filled.len())];
        let lengths: Vec<_> = input.iter().map(Vec::len).collect();
        bytes(&mut input[victim], &lengths, others, random);
    }
}

/// Whole parts: doubled, left out, in another order, or another input's.
fn parts(input: &mut Input, others: &[Input], random: &mut StdRng) {
    let at = random.random_range(0..input.len());
    match random.random_range(0..4) {
        0 => input.insert(at, input[at].clone()),
        1 if input.len() > 1 => drop(input.remove(at)),
        2 => {
            let other = random.random_range(0..input.len());
            input.swap(at, other);
        }
        _ => input[at] = part_of(others, random),
    }
}

fn part_of(inputs: &[Input], random: &mut StdRng) -> Vec<u8> {
    let input = &inputs[random.random_range(0..inputs.len())];
    if input.is_empty() { Vec::new() } else { input[random.random_range(0..input.len())].clone() }
}

fn bytes(bytes: &mut Vec<u8>, lengths: &[usize], others: &[Input], random: &mut StdRng) {
    // Where Arrow's buffers begin, and the body, is where they say what they become.
    let step = [1, 1, 64, bytes.len()][random.random_range(0..4)];
    let at = random.random_range(0..bytes.len()) / step * step;
    match random.random_range(0..12) {
        0 | 1 => bytes[at] ^= 1 << random.random_range(0..8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
        3 => bytes[at] = random.random(),
        4..=6 => number(bytes, at, lengths, random),
        7 => bytes.truncate(at),
        8 => {
            let count = random.random_range(1..=bytes.len() - at).min(64);
            let copy = bytes[at..at + count].to_vec();
            bytes.splice(at..at, copy);
        }
        9 => {
            let count = random.random_range(1..=(bytes.len() - at).min(16));
            bytes.drain(at..at + count);
        }
        10 => {
            let from = random.random_range(0..bytes.len());
            let count = random.random_range(1..=16).min(bytes.len() - at.max(from));
            bytes.copy_within(from..from + count, at);
        }
        _ => {
            let other = part_of(others, random);
            let (start, count) = (at.min(other.len()), random.random_range(1..=32));
            let copy = &other[start..other.len().min(start + count)];
            let room = copy.len().min(bytes.len() - at);
            bytes[at..at + room].copy_from_slice(&copy[..room]);
        }
    }
}

/// A number of four or eight bytes, where one may begin: one of those that matter, a length, or near what is there.
fn number(bytes: &mut [u8], at: usize, lengths: &[usize], random: &mut StdRng) {
    let width = if random.random() { 8 } else { 4 };
    let at = at / width * width;
    let Some(place) = bytes.get_mut(at..at + width) else { return };
    let mut there = [0; 8];
    there[..width].copy_from_slice(place);
    let number = match random.random_range(0..3) {
        0 => NUMBERS[random.random_range(0..NUMBERS.len())],
        1 => i64::try_from(lengths[random.random_range(0..lengths.len())]).unwrap().wrapping_add(random.random_range(-1..=1)),
        _ => i64::from_le_bytes(there).wrapping_add(random.random_range(-9..=9)),
    };
    place.copy_from_slice(&number.to_le_bytes()[..width]);
}
