//! D3: a loop that is stuck is noticed, and its stack says where.

use crate::support::wait_for;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sys::stall::{Stall, StallDetector};

const LIMIT: Duration = Duration::from_millis(20);

#[inline(never)]
fn spin_in_a_place_with_a_name(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn block_in_a_place_with_a_name(gate: &Receiver<()>) {
    let answer = gate.recv();
    // Something to do afterwards: a call in the last place would leave no frame of this function.
    std::hint::black_box(answer.is_ok());
}

fn names(stall: &Stall, function: &str) -> bool {
    stall.stack.iter().any(|frame| frame.contains(function))
}

#[test]
fn d3_a_busy_stall_is_reported_with_the_name_of_the_function() {
    let stalls: Arc<Mutex<Vec<Stall>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, ends) = (Arc::clone(&stalls), Arc::clone(&stop));
    let (heart, detector) = StallDetector::start("root", LIMIT, move |stall| {
        seen.lock().unwrap().push(stall);
        ends.store(true, Ordering::SeqCst);
    })
    .unwrap();
    heart.busy();
    spin_in_a_place_with_a_name(&stop);
    heart.idle();
    drop(detector);
    let stalls = stalls.lock().unwrap();
    let stall = &stalls[0];
    assert_eq!(stall.loop_name, "root");
    assert!(LIMIT <= stall.lasted_so_far);
    assert!(names(stall, "spin_in_a_place_with_a_name"), "{stall:#?}");
    assert!(!names(stall, "on_signal"), "{stall:#?}");
}

#[test]
fn d3_a_blocking_call_is_reported_with_the_name_of_its_caller() {
    let (open, gate) = channel();
    let stalls: Arc<Mutex<Vec<Stall>>> = Arc::default();
    let seen = Arc::clone(&stalls);
    let (heart, detector) = StallDetector::start("duty", LIMIT, move |stall| {
        seen.lock().unwrap().push(stall);
        let _ = open.send(());
    })
    .unwrap();
    heart.busy();
    block_in_a_place_with_a_name(&gate);
    heart.idle();
    drop(detector);
    let stalls = stalls.lock().unwrap();
    assert!(names(&stalls[0], "block_in_a_place_with_a_name"), "{:#?}", stalls[0]);
}

/// Turns below the limit are never reported, and an idle loop costs the watcher no wake-up.
#[test]
fn d3_a_healthy_loop_is_left_alone_and_an_idle_one_costs_nothing() {
    let reports = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&reports);
    let hour = Duration::from_hours(1);
    let (heart, detector) = StallDetector::start("healthy-loop", hour, move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    for _ in 0..10_000 {
        heart.busy();
        heart.idle();
    }
    drop(detector);
    assert_eq!(reports.load(Ordering::SeqCst), 0);

    let (heart, detector) =
        StallDetector::start("idle-loop", Duration::from_millis(1), |_| {}).unwrap();
    heart.busy();
    heart.idle();
    let task = wait_for("the watcher", || find_thread("stall-idle-loop"));
    let sleeps = || {
        let text = std::fs::read_to_string(format!("{task}/status")).unwrap();
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    // It goes to sleep for good: many looks in a row see the same number.
    let mut calm = (0, sleeps());
    wait_for("a sleep without end", || {
        let now = sleeps();
        calm = if now == calm.1 { (calm.0 + 1, now) } else { (0, now) };
        (20 <= calm.0).then_some(())
    });
    drop((heart, detector));
}

fn find_thread(name: &str) -> Option<String> {
    // The kernel keeps fifteen bytes of a name.
    let wanted = &name[..name.len().min(15)];
    std::fs::read_dir("/proc/self/task").unwrap().flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        (name.trim() == wanted).then(|| entry.path().display().to_string())
    })
}
