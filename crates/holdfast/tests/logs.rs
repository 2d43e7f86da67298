//! The logs duty as a real process: floods, rotations, sudden deaths, handovers and a full disk.
//!
//! The test binary starts itself again as the duty (`duty_process`), and once more in a mount
//! namespace of its own for the full disk. A binary apart from `it`, because it builds the duty's
//! module itself.

#[path = "../src/logs/mod.rs"]
mod logs;
#[cfg(test)]
#[path = "logs/support.rs"]
mod support;

use logs::protocol::{FromLogs, ToLogs};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{
    Bench, DutyProcess, Writer, assert_lines, flood, in_mount_namespace, kept_lines, mount_tmpfs,
    policy, total_switches, wait_until,
};

/// Not a test of its own: the duty, when started by one.
#[test]
fn duty_process() {
    support::be_the_duty_if_asked();
}

/// Fewer than a thousand files of 2 MiB hold.
const FLOOD_LINES_MAX: u64 = 15_000_000;

#[test]
fn a_flood_loses_and_doubles_no_line_and_starves_nobody() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(2 * 1024 * 1024);
    wanted.keep = 1_000;
    wanted.compress = true;
    duty.send(&ToLogs::Watch { instance: "flood".into(), policy: wanted.clone() });
    duty.send(&ToLogs::Watch { instance: "quiet:1".into(), policy: wanted });
    let mut quiet = Writer::open(&bench, "quiet:1.out");
    let (bench, stop) = (&bench, &AtomicBool::new(false));
    let written = std::thread::scope(|scope| {
        let lines = AtomicU64::new(0);
        // On a machine that is busy with other things the flood ends before old files are deleted.
        let ends = move || {
            stop.load(Ordering::Relaxed)
                || FLOOD_LINES_MAX < lines.fetch_add(500, Ordering::Relaxed)
        };
        let flooding = scope.spawn(move || flood(bench, "flood.out", ends));
        let is_compressed = |number| bench.log(&format!("flood.log.{number}.gz")).exists();
        wait_until("the flood has rotated", || (3..=1_000).any(is_compressed));
        for number in 0..20 {
            quiet.line(number);
            let seen = || kept_lines(&bench.log("quiet:1.log")).len() == number as usize + 1;
            wait_until("the quiet one is heard during the flood", seen);
        }
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    });
    duty.drain("flood", 7);
    assert_lines(&bench.log("flood.log"), written);
    let compressed = || !(1..=1_000).any(|n| bench.log(&format!("flood.log.{n}")).exists());
    wait_until("all rotated files are compressed", compressed);
    assert_lines(&bench.log("flood.log"), written);
    let size = std::fs::metadata(bench.log("flood.log")).unwrap().len();
    assert!(size <= 2 * 1024 * 1024, "{size}");
}

#[test]
fn p8_sudden_deaths_in_a_flood_lose_and_double_no_line() {
    let bench = Bench::new();
    let mut wanted = policy(512 * 1024);
    wanted.keep = 5_000;
    let watch = ToLogs::Watch { instance: "web".into(), policy: wanted };
    let stop = AtomicBool::new(false);
    let (written, mut duty) = std::thread::scope(|scope| {
        let mut duty = DutyProcess::start(&bench);
        duty.send(&watch);
        let flooding = scope.spawn(|| flood(&bench, "web.out", || stop.load(Ordering::Relaxed)));
        for _ in 0..15 {
            let before = rotated(&bench);
            wait_until("output flows", || before + 2 < rotated(&bench));
            duty.kill();
            duty = DutyProcess::start(&bench);
            duty.send(&watch);
        }
        stop.store(true, Ordering::Relaxed);
        (flooding.join().unwrap(), duty)
    });
    duty.drain("web", 1);
    assert_lines(&bench.log("web.log"), written);
}

fn rotated(bench: &Bench) -> u64 {
    let names = std::fs::read_dir(bench.path("logs")).into_iter().flatten().flatten();
    names.filter(|entry| entry.file_name() != "web.log").count() as u64
}

#[test]
fn a_handover_in_a_flood_loses_and_doubles_no_line() {
    let bench = Bench::new();
    let mut wanted = policy(512 * 1024);
    wanted.keep = 5_000;
    let watch = ToLogs::Watch { instance: "web".into(), policy: wanted };
    let stop = AtomicBool::new(false);
    let (written, mut duty) = std::thread::scope(|scope| {
        let mut duty = DutyProcess::start(&bench);
        duty.send(&watch);
        let flooding = scope.spawn(|| flood(&bench, "web.out", || stop.load(Ordering::Relaxed)));
        for turn in 0..6 {
            let before = rotated(&bench);
            wait_until("output flows", || before + 2 < rotated(&bench));
            if turn % 2 == 0 {
                // As after `kill -9` of the root: an orphan goes on, and yields.
                duty.close_link();
                let before = rotated(&bench);
                wait_until("the orphan goes on", || before + 2 < rotated(&bench));
            }
            let mut next = DutyProcess::start(&bench);
            next.send(&watch);
            assert!(duty.wait().success(), "the old one ends by itself");
            assert_eq!(next.notices(), Vec::<String>::new());
            duty = next;
        }
        stop.store(true, Ordering::Relaxed);
        (flooding.join().unwrap(), duty)
    });
    duty.drain("web", 1);
    assert_lines(&bench.log("web.log"), written);
}

#[test]
fn a_duty_that_does_not_answer_is_replaced_by_force_and_said_so() {
    let bench = Bench::new();
    let mut old = DutyProcess::start(&bench);
    let watch = ToLogs::Watch { instance: "web".into(), policy: policy(1 << 20) };
    old.send(&watch);
    let mut writer = Writer::open(&bench, "web.out");
    writer.line(0);
    old.drain("web", 1);
    old.signal(support::SIGSTOP);
    writer.line(1);
    let mut new = DutyProcess::start(&bench);
    new.send(&watch);
    new.drain("web", 2);
    assert!(!old.wait().success());
    let notices = new.notices();
    assert!(notices.iter().any(|n| n.contains("did not hand over")), "{notices:?}");
    assert_lines(&bench.log("web.log"), 2);
}

#[test]
fn c6_hung_up_pipes_and_idle_ones_cause_no_wake_ups() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    for name in ["web", "db"] {
        let instance = name.to_owned();
        duty.send(&ToLogs::Watch { instance, policy: policy(1 << 20) });
    }
    let mut open = Writer::open(&bench, "db.out");
    open.line(0);
    duty.drain("web", 3);
    // Opened, written and closed: a reader alone would see the end of the file again and again.
    Writer::open(&bench, "web.out").line(0);
    duty.drain("web", 1);
    duty.drain("db", 2);
    let mut last = total_switches(duty.pid());
    let mut same = 0;
    wait_until("it sleeps without waking up", || {
        let now = total_switches(duty.pid());
        same = if now == last { same + 1 } else { 0 };
        last = now;
        100 <= same
    });
}

#[test]
fn an_orphan_without_services_ends_and_one_with_services_stays() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start_with(&bench, Some(Duration::from_millis(600)));
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: policy(1 << 20) });
    let mut writer = Writer::open(&bench, "web.out");
    duty.drain("web", 1);
    duty.close_link();
    for number in 0..10 {
        writer.line(number);
        wait_until("the orphan keeps output", || {
            kept_lines(&bench.log("web.log")).len() == number as usize + 1
        });
    }
    drop(writer);
    assert!(duty.wait().success());
}

#[test]
fn signals_of_a_terminal_are_not_meant_for_it_and_sigterm_writes_what_waits() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: policy(1 << 20) });
    let mut writer = Writer::open(&bench, "web.out");
    duty.drain("web", 1);
    duty.signal(support::SIGINT);
    duty.signal(support::SIGHUP);
    duty.drain("web", 2);
    (0..1_000).for_each(|n| writer.line(n));
    duty.signal(support::SIGTERM);
    assert!(duty.wait().success());
    assert_lines(&bench.log("web.log"), 1_000);
}

#[test]
fn split_streams_changed_policies_and_forgotten_instances() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(1 << 20);
    wanted.split_stderr = true;
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: wanted.clone() });
    wanted.split_stderr = false;
    wanted.path = Some(bench.log("web.log"));
    // A file can't have two writers: said, and kept elsewhere.
    duty.send(&ToLogs::Watch { instance: "other".into(), policy: wanted });
    // A pipe that nobody holds open forgets its content: the duty must be there before us.
    duty.drain("other", 10);
    let (mut out, mut err) = (Writer::open(&bench, "web.out"), Writer::open(&bench, "web.err"));
    out.line(0);
    err.line(0);
    Writer::open(&bench, "other.out").line(0);
    duty.drain("web", 1);
    duty.drain("other", 2);
    for name in ["web.log", "web.err.log", "other.log"] {
        assert_lines(&bench.log(name), 1);
    }
    let failed = duty.failures();
    assert!(failed.iter().any(|m| m.contains("already written by `web`")), "{failed:?}");

    let elsewhere = bench.path("elsewhere.log");
    let mut moved = policy(1 << 20);
    moved.path = Some(elsewhere.clone());
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: moved });
    duty.drain("web", 3);
    out.line(0);
    duty.send(&ToLogs::Unwatch { instance: "web".into() });
    duty.expect("web is forgotten", |m| matches!(m, FromLogs::Unwatched { .. }));
    assert_lines(&elsewhere, 1);
    duty.send(&ToLogs::Drain { instance: "../x".into(), token: 9 });
    duty.expect("a bad name is refused", |m| matches!(m, FromLogs::Failed { .. }));
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew_and_a_link_is_refused() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: policy(1 << 20) });
    let mut writer = Writer::open(&bench, "web.out");
    writer.line(0);
    duty.drain("web", 1);
    std::fs::rename(bench.log("web.log"), bench.path("away.log")).unwrap();
    let mut token = 1;
    wait_until("the file is there again", || {
        token += 1;
        writer.line(token);
        duty.drain("web", token);
        bench.log("web.log").exists()
    });
    std::os::unix::fs::symlink("/dev/null", bench.log("evil.log")).unwrap();
    duty.send(&ToLogs::Watch { instance: "evil".into(), policy: policy(1 << 20) });
    duty.expect(
        "a link is refused",
        |m| matches!(m, FromLogs::Failed { message, .. } if message.contains("symbolic link")),
    );
}

#[test]
fn an_old_file_is_rotated_without_a_further_line_but_not_within_one() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(1 << 20);
    wanted.age_max_ms = Some(300);
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: wanted });
    let mut writer = Writer::open(&bench, "web.out");
    writer.line(0);
    wait_until("it is rotated", || bench.log("web.log.1").exists());
    assert_eq!(std::fs::metadata(bench.log("web.log")).unwrap().len(), 0);
    let (half, rest) = (&support::line_of(1)[..20], &support::line_of(1)[20..]);
    writer.text(half);
    let begun = || std::fs::read_to_string(bench.log("web.log")).unwrap() == half;
    wait_until("half a line is in the file", begun);
    let mut looks = 0;
    wait_until("it has become old", || {
        looks += 1;
        100 < looks
    });
    assert!(begun(), "a line is not torn apart");
    writer.text(rest);
    wait_until("its end rotates it", || bench.log("web.log.2").exists());
    assert_lines(&bench.log("web.log"), 2);
}

#[test]
fn a_full_disk_blocks_no_service_and_every_lost_byte_is_told() {
    if !in_mount_namespace("a_full_disk_blocks_no_service_and_every_lost_byte_is_told") {
        return;
    }
    let bench = Bench::new();
    let _mounted = mount_tmpfs(&bench.path("logs"), "1m");
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(64 * 1024 * 1024);
    wanted.keep = 0;
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: wanted });
    let ballast = bench.log("ballast");
    std::fs::write(&ballast, vec![b'x'; 512 * 1024]).unwrap();
    let mut writer = Writer::open(&bench, "web.out");
    // Far more than fits on the disk and into the pipe: a blocked writer would never get through.
    (0..60_000).for_each(|n| writer.line(n));
    duty.drain("web", 1);
    duty.expect(
        "trouble is told",
        |m| matches!(m, FromLogs::Failed { message, .. } if message.contains("disk full")),
    );
    std::fs::remove_file(&ballast).unwrap();
    let told = duty.expect("the loss is told", |m| matches!(m, FromLogs::Lost { .. }));
    (60_000..60_010).for_each(|n| writer.line(n));
    duty.drain("web", 2);
    let FromLogs::Lost { bytes, reason, .. } = told else { unreachable!() };
    assert_eq!(reason, "disk full");
    let kept = std::fs::read(bench.log("web.log")).unwrap();
    let marker = format!("[holdfast: {bytes} bytes lost: disk full]\n");
    let at = find(&kept, marker.as_bytes());
    // The marker begins a line; the line before it may have been cut by the full disk.
    let output = kept.len() - marker.len() - usize::from(is_torn(&kept[..at]));
    assert_eq!(output as u64 + bytes, writer.bytes(), "every byte is kept or counted");
    assert!(kept.ends_with(support::line_of(60_009).as_bytes()));
}

/// A line that the full disk cut off was ended for the marker.
fn is_torn(before: &[u8]) -> bool {
    let last = before[..before.len() - 1].rsplit(|b| *b == b'\n').next().unwrap_or_default();
    last.len() + 1 != support::line_of(0).len()
}

fn find(text: &[u8], part: &[u8]) -> usize {
    let at = text.windows(part.len()).position(|window| window == part);
    assert!(at.is_some(), "the marker is not in the log");
    at.unwrap_or_default()
}

#[test]
fn losses_are_handed_over_to_the_successor() {
    if !in_mount_namespace("losses_are_handed_over_to_the_successor") {
        return;
    }
    let bench = Bench::new();
    let _mounted = mount_tmpfs(&bench.path("logs"), "256k");
    let watch = ToLogs::Watch { instance: "web".into(), policy: policy(64 * 1024 * 1024) };
    let mut old = DutyProcess::start(&bench);
    old.send(&watch);
    let ballast = bench.log("ballast");
    let mut filler = std::fs::File::create(&ballast).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    drop(filler);
    let mut writer = Writer::open(&bench, "web.out");
    (0..10).for_each(|n| writer.line(n));
    old.drain("web", 1);
    let mut new = DutyProcess::start(&bench);
    new.send(&watch);
    assert!(old.wait().success());
    std::fs::remove_file(&ballast).unwrap();
    let told = new.expect("the loss is told", |m| matches!(m, FromLogs::Lost { .. }));
    let FromLogs::Lost { bytes, lines, .. } = told else { unreachable!() };
    assert_eq!((bytes, lines), (writer.bytes(), 10));
    let kept = std::fs::read_to_string(bench.log("web.log")).unwrap();
    assert_eq!(kept, format!("[holdfast: {bytes} bytes lost: disk full]\n"));
}

#[test]
fn an_unwritable_place_is_named_and_blocks_nobody() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(1 << 20);
    wanted.path = Some(Path::new("/nonexistent/dir/web.log").to_owned());
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: wanted });
    duty.expect("the cause is named", |m| {
        matches!(m, FromLogs::Failed { message, .. } if message.contains("does not exist; make it"))
    });
    let mut writer = Writer::open(&bench, "web.out");
    (0..50_000).for_each(|n| writer.line(n));
    duty.drain("web", 1);
}

#[test]
fn a_stream_holds_two_descriptors() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let open =
        |duty: &DutyProcess| std::fs::read_dir(format!("/proc/{}/fd", duty.pid())).unwrap().count();
    let before = open(&duty);
    for number in 0..20 {
        let instance = format!("web:{number}");
        duty.send(&ToLogs::Watch { instance, policy: policy(1 << 20) });
    }
    duty.drain("web:19", 1);
    assert_eq!(open(&duty), before + 2 * 20);
}

#[test]
fn a_stream_that_could_not_be_opened_is_opened_as_soon_as_it_can_be() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let pipe = bench.path("fifo/web.out");
    std::fs::write(&pipe, "in the way").unwrap();
    duty.send(&ToLogs::Watch { instance: "web".into(), policy: policy(1 << 20) });
    duty.expect("it is told once", |message| {
        matches!(message, FromLogs::Failed { instance, message }
            if instance == "web" && message.contains("waits until that works"))
    });
    std::fs::remove_file(&pipe).unwrap();
    wait_until("the pipe is made", || pipe.exists());
    Writer::open(&bench, "web.out").line(0);
    wait_until("its output is kept", || kept_lines(&bench.log("web.log")).len() == 1);
    assert_eq!(duty.failures(), Vec::<String>::new());
    // Nobody waits for it any more: nothing is left to be tried.
    duty.send(&ToLogs::Unwatch { instance: "web".into() });
    duty.expect("it is forgotten", |message| matches!(message, FromLogs::Unwatched { .. }));
}

#[test]
fn d5_what_costs_processor_time_has_a_thread_beside_the_loop() {
    let bench = Bench::new();
    let mut duty = DutyProcess::start(&bench);
    let mut wanted = policy(1024 * 1024);
    (wanted.keep, wanted.compress) = (1_000, true);
    duty.send(&ToLogs::Watch { instance: "bulk".into(), policy: wanted });
    // A fixed amount: how much one half has to do must not depend on how fast the other one is.
    let mut writer = Writer::open(&bench, "bulk.out");
    let lines = 8 * 1024 * 1024 / support::line_of(0).len() as u64;
    (0..lines).for_each(|n| writer.line(n));
    duty.drain("bulk", 1);
    // The newest rotated file stays as it is, so that whoever follows it can read on.
    let plain = |number| journal::logfile::rotated_path(&bench.log("bulk.log"), number).exists();
    wait_until("what was rotated is compressed", || {
        bench.log("bulk.log.2.gz").exists() && (2..10).all(|number| !plain(number))
    });
    assert_lines(&bench.log("bulk.log"), lines);
    let busy = support::busy(duty.pid());
    let of = |name: &str| busy.iter().filter(|(own, _)| own == name).map(|(_, time)| time).sum();
    let compressing: u64 = of("compress");
    let rest = busy.iter().map(|(_, time)| time).sum::<u64>() - compressing;
    println!("compressing {compressing} ns, the rest {rest} ns");
    // Were it done in the loop, the thread would have nothing to do. How much each wake-up for the pipe
    // costs is the kernel's affair: on a busy machine the rest may take longer than compressing.
    assert!(rest / 8 < compressing, "{busy:?}");
}
