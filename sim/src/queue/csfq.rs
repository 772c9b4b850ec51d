//! Core-stateless fair queueing's dropping (Stoica, Shenker, Zhang, SIGCOMM 1998) on a phantom queue, `weir_aqm::csfq`, in front of a
//! ring: the rival of weir's phantom queues.

use std::{cell::RefCell, rc::Rc};

use weir_aqm::csfq::{CsfqParams, CsfqVars, RateVars};
use weir_aqm::{Bytes, FairnessVerdict, Nanos, Pace, Rate};
use weir_egress::Decision;
use weir_shared_maps::PortCounter;

use super::{Controller, View, flow_hash::FlowHash};
use crate::{Packet, Random};

const FLOWS: u32 = 1024;
/// What the clock shows when a run begins: the state is that of a drain that was idle for long.
const BOOT: Nanos = Nanos::from_secs(1);

/// One drain and its flows. Clones share them: one for each ring of a port. What a ring refuses stays charged.
#[derive(Clone, Debug)]
pub struct Csfq {
    state: Rc<RefCell<State>>,
    now: Nanos,
}

#[derive(Debug)]
struct State {
    /// `None` only where no pace represents the rate; then everything is dropped.
    params: Option<CsfqParams>,
    vars: CsfqVars,
    flows: Vec<RateVars>,
    hash: FlowHash,
    random: Random,
}

impl Csfq {
    /// An idle drain. A `rate` outside 64 kbit/s to 400 Gbit/s is taken for the nearest in it.
    pub fn new(rate: Rate, mut random: Random) -> Self {
        let bits = rate.bits_per_second().clamp(Pace::MIN_BITS_PER_SECOND, Pace::MAX_BITS_PER_SECOND);
        let params = Pace::from_bits_per_second(bits).map(CsfqParams::as_compared);
        let hash = FlowHash::new(&mut random);
        let flows = vec![RateVars::default(); FLOWS as usize];
        let state = State { params, vars: CsfqVars::default(), flows, hash, random };
        Self { state: Rc::new(RefCell::new(state)), now: BOOT }
    }
}

impl Controller for Csfq {
    fn begin_batch(&mut self, now: Nanos, _ring: View) {
        self.now = now.saturating_add(BOOT);
    }

    fn judge(&mut self, packet: &Packet) -> Decision {
        let mut state = self.state.borrow_mut();
        let State { params, vars, flows, hash, random } = &mut *state;
        let bucket = hash.bucket(packet.flow, FLOWS) as usize;
        let (Some(params), Some(flow)) = (params, flows.get_mut(bucket)) else {
            return Decision::Drop(PortCounter::DropPolicer);
        };
        let length = Bytes::new(u64::from(packet.bytes));
        let decision = match vars.judge(params, flow, self.now, length, random.bits() as u32) {
            FairnessVerdict::Accept => Decision::Accept,
            FairnessVerdict::Signal if packet.ecn.is_capable() => Decision::Signal { may_mark: true },
            FairnessVerdict::Signal => return Decision::Drop(PortCounter::DropAqm),
            FairnessVerdict::OverShare | FairnessVerdict::OverLimit => {
                return Decision::Drop(PortCounter::DropFairness);
            }
        };
        vars.charge(params, self.now, length);
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contender, Ecn, Flow, Path, Scenario, Traffic};

    #[test]
    fn floods_of_different_rates_get_equal_shares_of_the_rate() {
        let mbit = |mbit: u64| Rate::from_bits_per_second(mbit * 1_000_000);
        let flood = |rate| Flow::new(Traffic::Constant { rate: mbit(rate), bytes: 1_242, ecn: Ecn::NotEct });
        let path = Path::new(mbit(100), Nanos::from_millis(10), 1_000);
        let scenario = Scenario::new(path, Contender::Csfq { rate: mbit(40) }, Nanos::from_secs(6));
        let flows = vec![flood(15), flood(40), flood(120)];
        let outcome = Scenario { flows, seed: 1, measure_from: Nanos::from_secs(2), ..scenario }.run();
        for flow in &outcome.flows {
            let rate = flow.payload[0] as f64 * 8.0 / 4.0 / 1e6 * 1_242.0 / 1_200.0;
            assert!((rate / (40.0 / 3.0) - 1.0).abs() < 0.1, "{rate} of 13.3");
        }
        assert_eq!(outcome.unaccounted(), 0);
    }
}
