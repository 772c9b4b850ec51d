//! Batches that the observer does not see. Its link is taken away and put back, which is how a test can bring that about at a
//! moment of its choice.

use std::path::PathBuf;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{BtfTracePoint, ProgramInfo};
use weir_shared_maps::names::PROG_OBSERVER_BTF;

use super::frame::{RECEIVER, udp};
use super::router::{Router, Running, privileged, wait_for};

/// The observer of an instance, and the link that attaches it.
struct Observer {
    program: BtfTracePoint,
    pin: PathBuf,
}

impl Observer {
    fn of(router: &Router) -> Self {
        let directory = PathBuf::from("/sys/fs/bpf/weir").join(router.instance()).join("v3");
        let info = ProgramInfo::from_pin(directory.join("programs").join(PROG_OBSERVER_BTF)).unwrap();
        // SAFETY: the pin has the name of a program of this type.
        let program = unsafe { BtfTracePoint::from_program_info(info, PROG_OBSERVER_BTF.into()) }.unwrap();
        Self { program, pin: directory.join("links").join(PROG_OBSERVER_BTF) }
    }

    /// Takes the link away; sends frames until one of them goes unseen, which is when the kernel has detached the program.
    fn close(&self, router: &Router, running: &Running) {
        std::fs::remove_file(&self.pin).unwrap();
        wait_for("the observer is detached", std::time::Duration::from_secs(5), || {
            let seen = running.port("seen");
            router.inject(&udp(RECEIVER.0).build());
            router.drain();
            running.port("seen") == seen
        });
    }

    fn open(&mut self) -> PinnedLink {
        let id = self.program.attach().unwrap();
        let link: FdLink = self.program.take_link(id).unwrap().into();
        link.pin(&self.pin).unwrap()
    }
}

#[test]
fn what_a_batch_that_nobody_saw_leaves_behind_is_counted_apart_and_spoils_no_other_batch() {
    let Some(_machine) = privileged("what_a_batch_that_nobody_saw") else { return };
    super::live::run_on(0);
    let router = Router::new();
    // Two large frames and some small ones at once; a large one takes a tenth of a second.
    let running = router.start("", "mode = \"policer\"\nrate = \"100kbit\"\nburst = \"4kb\"");
    let mut observer = Observer::of(&router);
    let small = udp(RECEIVER.0).build();
    observer.close(&router, &running);
    // The frame that told so is unseen already.
    let large = udp(RECEIVER.0).payload(1_400).build();
    let mut dropped = 0;
    for _ in 0..40 {
        let before = running.port("policer");
        router.inject(&large);
        dropped += running.port("policer") - before;
    }
    assert!(dropped > 0, "{:?}", running.snapshot().ports[0].counters);
    let let_through = router.drain().len() as u64 + 1;
    let sent = running.port("sent");
    observer.open();
    router.inject(&small);
    let last = router.drain().len() as u64;
    let snapshot = running.snapshot();
    let counters = &snapshot.ports[0].counters;
    assert_eq!(counters["ring_drops"], 0, "{counters:?}");
    assert_eq!(counters["unobserved"], let_through, "{counters:?}");
    assert_eq!(counters["sent"], sent + last, "{counters:?}");
    // Nobody was there to be skipped.
    assert_eq!(snapshot.skipped_runs[PROG_OBSERVER_BTF], 0);
    assert_eq!((snapshot.ports[0].unaccounted, snapshot.unaccounted()), (0, 0), "{counters:?}");
}

#[test]
fn a_port_that_nobody_observes_reads_clock_and_ring_all_the_same() {
    let Some(_machine) = privileged("a_port_that_nobody_observes") else { return };
    super::live::run_on(0);
    let router = Router::new();
    // A frame of 142 bytes takes 1.1 ms; eleven of them are let through at once.
    let running = router.start("", "mode = \"policer\"\nrate = \"1mbit\"\nburst = \"1600b\"");
    Observer::of(&router).close(&router, &running);
    let mut arrived = 0;
    wait_for("a burst passes many times over", std::time::Duration::from_secs(10), || {
        router.inject(&udp(RECEIVER.0).build());
        arrived += router.drain().len();
        arrived >= 100
    });
}
