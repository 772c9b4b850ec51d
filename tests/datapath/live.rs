//! Live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`, kernel 5.18): batches of a NAPI poll, as fast as a processor can send them.

use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, loaded_programs};
use aya_obj::programs::XdpAttachType;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weir::datapath::netdev;

use super::router::LAN;

/// Frames of one batch: a NAPI poll.
pub const POLL: u32 = 64;

/// The program on `lan0`, and what seems to arrive there.
pub struct Live {
    program: Xdp,
    frame: Vec<u8>,
}

impl Live {
    /// Finds the program; in the router's namespace.
    pub fn attached(frame: Vec<u8>) -> Self {
        let id = netdev::by_name(LAN).unwrap().xdp.unwrap();
        let info = loaded_programs().flatten().find(|info| info.id() == id).unwrap();
        let program = Xdp::from_program_info(info, "live".into(), XdpAttachType::Interface).unwrap();
        Self { program, frame }
    }

    /// Sends `frames` from this thread's processor, in batches of [`POLL`]; in the router's namespace, which the test run takes
    /// for that of the frames. A page that returns is sent again as the router left it, one hop less: 255 hops are enough for
    /// what one call sends.
    pub fn send(&self, frames: u32) {
        assert!(frames <= 128 * POLL, "the hops would run out");
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(POLL),
            ..TestRunOptions::new()
        };
        self.program.test_run(options).unwrap();
    }
}

/// Keeps this thread on one processor.
pub fn run_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}
