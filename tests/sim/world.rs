//! One run of a seed: hosts, network and disk, and what goes wrong with them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bowstring::engine::StreamOptions;
use bowstring::server::{Coordinator, CoordinatorOptions, Store, StoreError, Validation, serve_connections};
use bowstring::storage::{Spool, SpoolOptions};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use super::actors;
use super::disk::{Crash, SimDisk};
use super::net::{SERVER, incoming};
use super::oracle::Oracle;
use super::plan::{Call, Fault, HOSTS, Plan, Ways};
use super::trace::SimClock;

/// From then on nothing goes wrong any more.
const HEALED_AT: Duration = Duration::from_secs(9);
/// Everything that is under way has to end by then.
const LIMIT: Duration = Duration::from_secs(180);
/// How long the coordinator is left alone with a broken disk, and how long until it is started again otherwise.
const RESTART_PAUSE: Duration = Duration::from_millis(400);

/// How a run went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<String>,
    pub(crate) tail: String,
    /// The same for each run of a seed.
    pub(crate) digest: (u64, u64),
    pub(crate) elapsed: Duration,
}

/// Tasks are numbered over the whole process: see [`align_task_ids`].
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a seed, after any other run of this process.
pub(crate) fn run(seed: u64, prints: bool) -> Outcome {
    let _alone = ONE_AT_A_TIME.lock();
    bowstring::shared::random::seed_thread(seed);
    align_task_ids();
    let plan = Plan::of(seed);
    let clock = SimClock::of_this_thread();
    let oracle = Arc::new(Oracle::new(plan, clock.clone(), prints));
    let disk = SimDisk::new(seed);
    if prints {
        eprintln!("{:#?}", oracle.plan);
    }
    let mut world = World::new(oracle.clone(), disk.clone(), clock.clone());
    if let Err(error) = world.run() {
        oracle.fail(format!("the run broke off: {error}"));
    }
    drop(world);
    let digest = (oracle.trace.digest(), disk.digest());
    Outcome { failures: oracle.failures(), tail: oracle.trace.tail(), digest, elapsed: clock.elapsed() }
}

/// A runtime that is dropped ends its tasks by their numbers, modulo a small power of two; these count on over all runs.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        while tokio::spawn(async { tokio::task::id() }).await.expect("does nothing").to_string().parse::<u64>().expect("a number") % 1024
            != 0
        {}
    });
}

struct World<'a> {
    sim: Sim<'a>,
    oracle: Arc<Oracle>,
    disk: SimDisk,
    clock: SimClock,
    /// In order of time.
    todo: Vec<(Duration, Todo)>,
    is_up: bool,
    /// Errors of the disk that the coordinator has been started after.
    errors: u64,
    coordinator: Running,
}

/// The coordinator that runs, to be looked into when nothing goes on.
type Running = Arc<Mutex<Weak<Coordinator>>>;

/// What is to be done at its time.
#[derive(Debug, Clone, Copy)]
enum Todo {
    Fault(Fault),
    Start,
    Repair(&'static str),
    Release(&'static str),
    MakeRoom,
    Restart(Crash),
}

impl World<'_> {
    fn new(oracle: Arc<Oracle>, disk: SimDisk, clock: SimClock) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(oracle.plan.seed)
            .tick_duration(oracle.plan.tick)
            .simulation_duration(LIMIT * 2)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(oracle.plan.latency_max)
            .tcp_capacity(1 << 16);
        let mut sim = builder.build();
        let coordinator = Running::default();
        let server = (oracle.clone(), disk.clone(), clock.clone(), coordinator.clone());
        sim.host(SERVER, move || serve(server.0.clone(), server.1.clone(), server.2.clone(), server.3.clone()));
        for host in HOSTS {
            let oracle = oracle.clone();
            sim.client(host, async move {
                actors::run(oracle, host).await;
                Ok(())
            });
        }
        let verifier = oracle.clone();
        sim.client("verifier", async move {
            actors::verify(verifier).await;
            Ok(())
        });
        let todo = oracle.plan.faults.iter().map(|(at, fault)| (*at, Todo::Fault(*fault))).collect();
        Self { sim, oracle, disk, clock, todo, is_up: true, errors: 0, coordinator }
    }

    /// Until all is done and verified.
    fn run(&mut self) -> turmoil::Result<()> {
        let mut is_healed = false;
        loop {
            let is_finished = self.sim.step()?;
            self.clock.advance(self.oracle.plan.tick);
            self.watch_server();
            self.do_due();
            let now = self.clock.elapsed();
            if !is_healed && now >= HEALED_AT {
                is_healed = true;
                self.heal();
            }
            let is_quiet = is_healed && self.todo.is_empty() && self.is_up;
            if is_quiet && self.oracle.is_idle() && !self.oracle.verifies() {
                self.oracle.note("all is done; the power fails once more");
                self.crash(Crash::Power, RESTART_PAUSE);
                self.oracle.verify_now();
            }
            if is_finished || !self.oracle.failures().is_empty() {
                return Ok(());
            }
            if now > LIMIT {
                for cell in self.coordinator.lock().upgrade().iter().flat_map(|coordinator| coordinator.list()) {
                    self.oracle.note(format!("{:#?}", cell.describe()));
                }
                self.oracle.fail("somebody waits for what nobody will do");
                return Ok(());
            }
        }
    }

    /// A coordinator that has crashed at its disk is down; one that met an error there is started again after a while.
    fn watch_server(&mut self) {
        if let (true, Some(crash)) = (self.is_up, self.disk.crashed()) {
            self.oracle.note(format!("the coordinator has crashed at a call of its disk: {crash:?}"));
            self.down(RESTART_PAUSE);
        }
        if self.is_up && self.disk.errors() > self.errors {
            self.errors = self.disk.errors();
            self.oracle.note("the disk has failed");
            let crash = if self.errors.is_multiple_of(2) { Crash::Process } else { Crash::Power };
            self.later(RESTART_PAUSE * 2, Todo::Restart(crash));
        }
    }

    fn do_due(&mut self) {
        let now = self.clock.elapsed();
        while let Some(index) = self.todo.iter().position(|(at, _)| *at <= now) {
            let (_, todo) = self.todo.remove(index);
            self.oracle.note(format!("{todo:?}, the disk has {} bytes", self.disk.used()));
            match todo {
                Todo::Fault(fault) => self.begin(fault),
                Todo::Start if !self.is_up => {
                    self.sim.bounce(SERVER);
                    self.is_up = true;
                }
                Todo::Repair(host) => self.sim.repair(host, SERVER),
                Todo::Release(host) => self.sim.release(host, SERVER),
                Todo::MakeRoom => self.disk.set_capacity(None),
                Todo::Restart(crash) if self.is_up => self.crash(crash, RESTART_PAUSE),
                Todo::Start | Todo::Restart(_) => {}
            }
        }
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { crash, calls: None, down } if self.is_up => self.crash(crash, down),
            Fault::Crash { calls: None, .. } => {}
            Fault::Crash { crash, calls: Some(calls), .. } => self.disk.crash_at(crash, calls),
            Fault::Partition { host, ways, lasts } => {
                match ways {
                    Ways::Both => self.sim.partition(host, SERVER),
                    Ways::ToServer => self.sim.partition_oneway(host, SERVER),
                    Ways::FromServer => self.sim.partition_oneway(SERVER, host),
                }
                self.later(lasts, Todo::Repair(host));
            }
            Fault::Hold { host, lasts } => {
                self.sim.hold(host, SERVER);
                self.later(lasts, Todo::Release(host));
            }
            Fault::Full { room, lasts } => {
                self.disk.set_capacity(Some(self.disk.used() + room));
                self.later(lasts, Todo::MakeRoom);
            }
            Fault::Broken { call: Call::Sync, calls } => self.disk.fail_sync(calls),
            Fault::Broken { call: Call::Write, calls } => self.disk.fail_write(calls),
            Fault::Broken { call: Call::Read, calls } => self.disk.fail_read(calls),
            Fault::Broken { call: Call::WrongRead, calls } => self.disk.flip_read(calls),
        }
    }

    fn crash(&mut self, crash: Crash, down: Duration) {
        self.disk.crash(crash);
        self.down(down);
    }

    fn down(&mut self, down: Duration) {
        self.oracle.crashed();
        self.sim.crash(SERVER);
        self.is_up = false;
        self.later(down, Todo::Start);
    }

    fn heal(&mut self) {
        self.oracle.note("everything is healed");
        self.disk.heal();
        for host in HOSTS {
            self.sim.release(host, SERVER);
            self.sim.repair(host, SERVER);
        }
    }

    fn later(&mut self, after: Duration, todo: Todo) {
        self.todo.push((self.clock.elapsed() + after, todo));
        self.todo.sort_by_key(|(at, _)| *at);
    }
}

/// The coordinator's host.
async fn serve(oracle: Arc<Oracle>, disk: SimDisk, clock: SimClock, running: Running) -> turmoil::Result {
    let is_full = disk.is_full();
    let errors = disk.errors();
    match open(&disk, clock, oracle.plan.segment_bytes_cut) {
        Ok(coordinator) => {
            oracle.note("the coordinator is up");
            *running.lock() = Arc::downgrade(&coordinator);
            let ticking = coordinator.clone();
            tokio::select! {
                biased;
                () = serve_connections(coordinator, incoming().await?, CancellationToken::new()) => (),
                () = tick(&ticking) => (),
            }
        }
        // The world starts it again.
        Err(error) if disk.crashed().is_some() || disk.errors() > errors => oracle.note(format!("does not start: {error}")),
        Err(error) if is_full => {
            oracle.note(format!("does not start on a full disk: {error}"));
            disk.give_up();
        }
        Err(error) => oracle.fail(format!("the coordinator does not start: {error}")),
    }
    std::future::pending().await
}

/// Lets time pass in the coordinator.
async fn tick(coordinator: &Coordinator) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        coordinator.tick();
    }
}

fn open(disk: &SimDisk, clock: SimClock, segment_bytes_cut: u64) -> Result<Arc<Coordinator>, StoreError> {
    let options = CoordinatorOptions {
        stream_defaults: StreamOptions::default(),
        create_on_put: false,
        message_bytes_max: 1 << 30,
        append_timeout: None,
        validation: Validation::Structure,
        validation_bytes_max: 1 << 20,
        decompressed_bytes_max: 1 << 30,
    };
    let spool = Spool::new(SpoolOptions::default())?;
    let store = Store::on(disk.mount(), 0, false)?.cut_segments_at(segment_bytes_cut);
    Coordinator::with_store(options, spool, Arc::new(clock), store)
}
