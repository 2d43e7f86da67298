//! What the allocator of the C library keeps for itself, and what of the program only its start used.
//!
//! Why: a daemon reads its configuration once and then sits still for months. By default the
//! allocator gives each thread an area of its own, and keeps what was freed at the start; and all
//! code that ran once stays mapped. Both are memory that nobody uses.
//! Invariant: nothing is dropped that is not in the program's file as well.
//! Source: mallopt(3), malloc_trim(3); other C libraries have neither, there nothing is done.
//! madvise(2), `MADV_DONTNEED`; proc_pid_smaps(5).

use std::fs;
use std::ops::Range;

/// Requests of this size and above are mapped by themselves, and given back as soon as they are
/// freed. The C library would raise this limit to the largest request that it has seen freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: i32 = 256 * 1024;

/// Free memory at the end of the heap is given back beyond this much.
#[cfg(target_env = "gnu")]
const TRIM_BYTES: i32 = 256 * 1024;

/// One area for all threads, and no hoard. To be called before threads are started. Our threads
/// wait for the world, not for each other's allocations.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set numbers within the allocator; nothing of ours is touched.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Gives back what is free, also from the middle of the heap. Takes about a millisecond for ten
/// MiB, during which other threads can't allocate.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator gives whole free pages back to the kernel; what is in use stays.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps what lies in the program's file, code above all. What is needed comes back from the page
/// cache at its next use, some sixteen pages at a time; what only the start has used does not.
pub fn give_back_program() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let Ok(smaps) = fs::read_to_string("/proc/self/smaps") else { return };
    for range in clean_parts(&smaps, &program.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: a mapping of our own program, which stays as long as we do. It can't be written,
        // and none of its pages is a copy that differs from the file: it reads as before.
        unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    }
}

/// Where the program lies in memory just as it lies in its file. What the loader has changed, and a
/// debugger's breakpoints, are pages of our own: in memory (`Anonymous`) or swapped out.
fn clean_parts(smaps: &str, program: &str) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    let ending = format!(" {program}");
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Anonymous:" | "Swap:") if open && words.next() != Some("0") => {
                parts.pop();
                open = false;
            }
            Some(name) if name.ends_with(':') => {}
            Some(range) => {
                let fixed = matches!(words.next(), Some("r-xp" | "r--p"));
                let range = parse_range(range).filter(|_| fixed && line.ends_with(&ending));
                open = range.is_some();
                parts.extend(range);
            }
            None => {}
        }
    }
    parts
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_and_of_the_program_is_given_back() {
        let part = |head: &str, anonymous: u32, swap: u32| {
            format!(
                "{head}\nRss:  8 kB\nAnonymous:  {anonymous} kB\nSwap:  {swap} kB\nVmFlags: rd mr\n"
            )
        };
        let smaps = [
            part("1000-2000 r--p 00000000 fe:00 17   /bin/program", 0, 0),
            part("2000-4000 r-xp 00001000 fe:00 17   /bin/program", 0, 0),
            // Changed by the loader; swapped out; a breakpoint; data; not a file; another file.
            part("4000-5000 r--p 00003000 fe:00 17   /bin/program", 4, 0),
            part("5000-6000 r--p 00003000 fe:00 17   /bin/program", 0, 4),
            part("6000-7000 r-xp 00003000 fe:00 17   /bin/program", 4, 0),
            part("7000-8000 rw-p 00004000 fe:00 17   /bin/program", 0, 0),
            part("8000-9000 r-xp 00000000 00:00 0", 0, 0),
            part("9000-a000 r-xp 00000000 fe:00 18   /lib/libc.so.6", 0, 0),
        ];
        assert_eq!(clean_parts(&smaps.concat(), "/bin/program"), [0x1000..0x2000, 0x2000..0x4000]);
        assert_eq!(clean_parts("", "/bin/program"), []);
    }

    fn resident_kib(range: &Range<usize>) -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let head = format!("{:x}-{:x} ", range.start, range.end);
        let mut of_range = smaps.lines().skip_while(|line| !line.starts_with(&head));
        let resident = of_range.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn code_that_is_not_used_is_unmapped_and_the_rest_goes_on() {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let parts = clean_parts(&smaps, &program.to_string_lossy());
        let largest = parts.iter().max_by_key(|part| part.len()).unwrap();
        for page in largest.clone().step_by(4096) {
            // SAFETY: a readable mapping of our own program.
            unsafe { std::ptr::with_exposed_provenance::<u8>(page).read_volatile() };
        }
        let before = resident_kib(largest);
        give_back_program();
        let after = resident_kib(largest);
        assert!(after < before / 2, "{before} KiB, then {after} KiB");
    }
}
