//! The memory node that the slab lies on.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

/// The node that holds most of a range of this process's memory. `None` if none of it was touched,
/// or the system does not say.
pub(super) fn node_of(range: &Range<usize>) -> Option<u16> {
    // Where there are no nodes the file is missing.
    most(&fs::read_to_string("/proc/self/numa_maps").ok()?, range)
}

/// As [`node_of`], by the text of `/proc/PID/numa_maps`: a mapping a line, with its first address
/// and the pages that it has on each node (proc(5)). The kernel may have joined the range with
/// what lies before it; that mapping counts whole.
fn most(maps: &str, range: &Range<usize>) -> Option<u16> {
    let start_of = |line: &str| usize::from_str_radix(line.split(' ').next()?, 16).ok();
    let first = maps.lines().filter_map(start_of).filter(|start| *start <= range.start).max();
    let counted = first.unwrap_or(range.start)..range.end;
    let mut bytes: BTreeMap<u16, u64> = BTreeMap::new();
    for line in maps.lines() {
        if !start_of(line).is_some_and(|start| counted.contains(&start)) {
            continue;
        }
        let words = line.split(' ').skip(1);
        let fields: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let page = fields.iter().find(|(name, _)| *name == "kernelpagesize_kB");
        let page_kib: u64 = page.and_then(|(_, size)| size.parse().ok()).unwrap_or(4);
        for (name, pages) in fields {
            let node = name.strip_prefix('N').and_then(|number| number.parse::<u16>().ok());
            if let (Some(node), Ok(pages)) = (node, pages.parse::<u64>()) {
                *bytes.entry(node).or_default() += pages.saturating_mul(page_kib);
            }
        }
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Slab;

    #[test]
    fn the_node_with_most_bytes_counts_whatever_the_size_of_its_pages() {
        let maps = "7f0000000000 default anon=9 N3=9000 kernelpagesize_kB=4\n\
                    7f0000200000 default anon=600 dirty=600 N0=600 kernelpagesize_kB=4\n\
                    7f0000600000 default huge anon=2 N0=1 N1=3 kernelpagesize_kB=2048\n\
                    7f0000800000 default file=/N2=7 mapped=1 N2=x kernelpagesize_kB=4\n\
                    7f0001000000 default anon=1 N4=1 kernelpagesize_kB=1048576\n";
        assert_eq!(most(maps, &(0x7f00_0020_0000..0x7f00_0100_0000)), Some(1));
        assert_eq!(most(maps, &(0x7f00_0020_0000..0x7f00_0060_0000)), Some(0));
        assert_eq!(most(maps, &(0x7f00_0080_0000..0x7f00_0100_0000)), None);
        // Joined with the mapping before it.
        assert_eq!(most(maps, &(0x7f00_0010_0000..0x7f00_0020_0000)), Some(3));
        assert_eq!(most("", &(0..usize::MAX)), None);
        assert_eq!(most("zz default\n\nN1=3", &(0..usize::MAX)), None);
    }

    #[test]
    fn a_slab_that_was_touched_lies_somewhere() {
        if !std::path::Path::new("/proc/self/numa_maps").exists() {
            println!("SKIPPED: this kernel knows no memory nodes");
            return;
        }
        let slab = Slab::new(16 << 20);
        let mut lease = slab.try_lease().unwrap();
        lease.fill(1);
        assert!(node_of(&slab.range()).is_some());
    }
}
