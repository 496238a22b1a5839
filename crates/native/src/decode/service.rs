//! One engine, many callers.

use super::kernel::Kernels;
use super::packed::PackedModel;
use super::request::{DecodeError, DecodeRequest, Decoded, DecoderOptions, ScoreRequest, Scored, TokenEvent};
use super::scheduler::{Report, Scheduler};
use super::{check, start};
use crate::{Model, ModelConfig};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What a running request of a [`DecodeService`] reports.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeEvent {
    /// A sample has one token more; `request` is 0.
    Token(TokenEvent),
    /// A sample has ended.
    Finished {
        /// Index of the sample within the request.
        sample: usize,
        /// The whole of it.
        decoded: Decoded,
    },
}

type Sink = Box<dyn FnMut(DecodeEvent) -> ControlFlow<()> + Send>;

enum Command {
    Decode { request: Box<DecodeRequest>, cancelled: Arc<AtomicBool>, sink: Sink },
    Score { requests: Vec<ScoreRequest>, answer: Sender<Vec<Vec<Scored>>> },
    Labels { prompts: Vec<Vec<u32>>, labels: Vec<u32>, answer: Sender<Vec<Vec<f32>>> },
    Swap(Arc<PackedModel>),
}

/// A thread that serves concurrent callers with one model by continuous batching: new requests enter while others run.
///
/// Cheap to clone. When the last clone is dropped, running requests are cancelled and the thread ends.
#[derive(Clone)]
pub struct DecodeService {
    shared: Arc<ServiceShared>,
}

struct ServiceShared {
    commands: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    config: ModelConfig,
    options: DecoderOptions,
}

impl Drop for ServiceShared {
    fn drop(&mut self) {
        // Without a sender the thread cancels what runs and ends.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl DecodeService {
    /// Packs the weights and starts the thread.
    ///
    /// # Errors
    /// [`DecodeError::Thread`] when a thread cannot be started.
    pub fn new(model: &Model, options: DecoderOptions) -> Result<Self, DecodeError> {
        let scheduler = start(model, &options)?;
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("decode-service".into())
            .spawn(move || serve(scheduler, &receiver))
            .map_err(|error| DecodeError::Thread(error.to_string()))?;
        let shared = ServiceShared {
            commands: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            config: model.config().clone(),
            options,
        };
        Ok(DecodeService { shared: Arc::new(shared) })
    }

    fn send(&self, command: Command) -> Result<(), DecodeError> {
        let commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_ref().and_then(|commands| commands.send(command).ok()).ok_or(DecodeError::Stopped)
    }

    /// Starts a request; its events come through the handle, and dropping the handle cancels it.
    ///
    /// # Errors
    /// A request that cannot be served is refused here; `request` in the error is 0.
    pub fn submit(&self, request: DecodeRequest) -> Result<DecodeHandle, DecodeError> {
        let (sender, events) = channel();
        let samples = request.samples;
        let cancelled = Arc::new(AtomicBool::new(false));
        let sink: Sink = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        self.start(request, Arc::clone(&cancelled), sink)?;
        Ok(DecodeHandle { events, cancelled, samples })
    }

    /// Starts a request whose events go to `sink` on the service's thread, so it must be quick (send into a channel);
    /// `Break` cancels the request, of which nothing is reported any more. The sink is dropped when nothing will come.
    ///
    /// # Errors
    /// As [`DecodeService::submit`].
    pub fn submit_with(
        &self,
        request: DecodeRequest,
        sink: impl FnMut(DecodeEvent) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), DecodeError> {
        self.start(request, Arc::new(AtomicBool::new(false)), Box::new(sink))
    }

    fn start(
        &self,
        request: DecodeRequest,
        cancelled: Arc<AtomicBool>,
        sink: Sink,
    ) -> Result<(), DecodeError> {
        check::decode(&self.shared.config, self.shared.options.token_texts.as_ref(), 0, &request)?;
        self.send(Command::Decode { request: Box::new(request), cancelled, sink })
    }

    /// As [`crate::Decoder::score`]; blocks until done.
    ///
    /// # Errors
    /// As there, and [`DecodeError::Stopped`].
    pub fn score(&self, requests: Vec<ScoreRequest>) -> Result<Vec<Vec<Scored>>, DecodeError> {
        for (index, request) in requests.iter().enumerate() {
            check::score(&self.shared.config, index, request)?;
        }
        let (answer, answers) = channel();
        self.send(Command::Score { requests, answer })?;
        answers.recv().map_err(|_| DecodeError::Stopped)
    }

    /// As [`crate::Decoder::label_logprobs`]; blocks until done.
    ///
    /// # Errors
    /// As there, and [`DecodeError::Stopped`].
    pub fn label_logprobs(
        &self,
        prompts: Vec<Vec<u32>>,
        labels: Vec<u32>,
    ) -> Result<Vec<Vec<f32>>, DecodeError> {
        check::labels(&self.shared.config, &prompts, &labels)?;
        let (answer, answers) = channel();
        self.send(Command::Labels { prompts, labels, answer })?;
        answers.recv().map_err(|_| DecodeError::Stopped)
    }

    /// Replaces the weights by those of a model of the same shape: requests submitted before run to their end with the
    /// old weights, those after begin with the new ones. Packs here, and does not wait for the running requests.
    ///
    /// # Errors
    /// [`DecodeError::OtherShape`], [`DecodeError::Stopped`].
    pub fn swap(&self, model: &Model) -> Result<(), DecodeError> {
        if *model.config() != self.shared.config {
            return Err(DecodeError::OtherShape);
        }
        self.send(Command::Swap(Arc::new(PackedModel::new(model, Kernels::best()))))
    }
}

/// A running request. Dropping it cancels what is not finished.
pub struct DecodeHandle {
    events: Receiver<DecodeEvent>,
    cancelled: Arc<AtomicBool>,
    samples: usize,
}

impl DecodeHandle {
    /// The next event; blocks. `None` when the request is done, or the service has stopped.
    pub fn next_event(&mut self) -> Option<DecodeEvent> {
        self.events.recv().ok()
    }

    /// Waits for all samples.
    ///
    /// # Errors
    /// [`DecodeError::Stopped`] when the service ended first.
    pub fn wait(self) -> Result<Vec<Decoded>, DecodeError> {
        let mut samples: Vec<Option<Decoded>> = vec![None; self.samples];
        while let Ok(event) = self.events.recv() {
            if let DecodeEvent::Finished { sample, decoded } = event
                && let Some(place) = samples.get_mut(sample)
            {
                *place = Some(decoded);
            }
        }
        samples.into_iter().collect::<Option<Vec<_>>>().ok_or(DecodeError::Stopped)
    }

    /// Asks the samples to end; each still reports what it has, as `Cancelled`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Drop for DecodeHandle {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A request the thread works on.
struct Client {
    sink: Sink,
    cancelled: Arc<AtomicBool>,
    /// The sink wants no more.
    gone: bool,
}

/// The thread's loop.
fn serve(mut scheduler: Scheduler, commands: &Receiver<Command>) {
    let mut clients: HashMap<usize, Client> = HashMap::new();
    let mut next_request = 0;
    // Set while running requests must end before the weights change; commands behind it wait in the channel.
    let mut swap: Option<Arc<PackedModel>> = None;
    loop {
        while swap.is_none() {
            let command = if scheduler.idle() {
                commands.recv().ok()
            } else {
                match commands.try_recv() {
                    Ok(command) => Some(command),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => None,
                }
            };
            match command {
                Some(Command::Decode { request, cancelled, sink }) => {
                    clients.insert(next_request, Client { sink, cancelled, gone: false });
                    scheduler.submit(next_request, *request);
                    next_request += 1;
                }
                // A caller that has gone away needs no answer.
                Some(Command::Score { requests, answer }) => drop(answer.send(scheduler.score(&requests))),
                Some(Command::Labels { prompts, labels, answer }) => {
                    drop(answer.send(scheduler.label_logprobs(&prompts, &labels)));
                }
                Some(Command::Swap(model)) => swap = Some(model),
                None => {
                    scheduler.cancel(&|_| true, &mut |report| tell(&mut clients, report));
                    return;
                }
            }
        }
        let cancelled: HashSet<usize> = clients
            .iter()
            .filter(|(_, client)| client.gone || client.cancelled.load(Ordering::Acquire))
            .map(|(&request, _)| request)
            .collect();
        if !cancelled.is_empty() {
            scheduler
                .cancel(&|request| cancelled.contains(&request), &mut |report| tell(&mut clients, report));
        }
        scheduler.step(&mut |report| tell(&mut clients, report));
        if scheduler.idle()
            && let Some(model) = swap.take()
        {
            scheduler.swap(model);
        }
    }
}

fn tell(clients: &mut HashMap<usize, Client>, report: Report) -> ControlFlow<()> {
    let (request, event) = match report {
        Report::Token(event) => (event.request, DecodeEvent::Token(TokenEvent { request: 0, ..event })),
        Report::Finished { request, sample, decoded } => (request, DecodeEvent::Finished { sample, decoded }),
        Report::Done { request } => {
            clients.remove(&request);
            return ControlFlow::Continue(());
        }
    };
    let Some(client) = clients.get_mut(&request) else { return ControlFlow::Break(()) };
    if client.gone {
        return ControlFlow::Break(());
    }
    let flow = (client.sink)(event);
    client.gone = flow.is_break();
    flow
}
