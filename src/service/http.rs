//! The door: connections are taken in, watched, and let go.
//!
//! Each connection is a task with a [`Watch`] that says what it waits for. **Invariant:** nobody holds one for ever: a head, a body, an
//! answer that is not read, a pause between requests each have a deadline, and where all connections are taken those on which nothing
//! is under way make room. An error of `accept` never ends the service.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::auth::Peer;
use crate::api::body::{Keeping, Stalled};
use crate::config::Config;

/// Of a connection: a request's head must fit, and much of a body is read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// A head, or a body, that nothing came of for so long, or an answer that nothing was read of, may have to make room for somebody else.
const HEAD_MAY_TAKE: Duration = Duration::from_secs(1);
const BODY_MAY_TAKE: Duration = Duration::from_secs(5);
/// How often room is looked for while somebody waits at the door.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// How long what a client still sends is thrown away, so that it gets to read the answer that was given before.
const LINGER: Duration = Duration::from_secs(2);
/// Descriptors beside connections, the database's and the provider's: files, pipes, timers.
const OWN_DESCRIPTORS: u64 = 32;
const CONNECTIONS_MIN: u64 = 8;

/// Deadlines and limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub connections_max: usize,
    pub header: Duration,
    pub idle: Duration,
    pub body: Duration,
    pub drain: Duration,
}

impl Settings {
    /// As set, and no more connections than there are descriptors for.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let server = &config.server;
        let connections_max =
            affordable(config).map_or(server.connections_max, |most| most.min(server.connections_max));
        if connections_max < server.connections_max {
            tracing::warn!(
                connections_max,
                "fewer connections than server.connections_max: the limit of open files (ulimit -n) leaves no more"
            );
        }
        Self {
            connections_max,
            header: Duration::from_secs(server.header_timeout_secs),
            idle: Duration::from_secs(server.idle_timeout_secs),
            body: Duration::from_secs(server.body_timeout_secs),
            drain: Duration::from_secs(server.drain_secs),
        }
    }

    /// How often deadlines are looked at.
    fn tick(&self) -> Duration {
        (self.header.min(self.idle).min(self.body) / 4).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }
}

/// Half of the descriptors that the database and those we call leave; none: there is no limit.
fn affordable(config: &Config) -> Option<usize> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let (database, executor) = (&config.database, &config.executor);
    // The pools, the listener for notifications, and one to spare.
    let pools = u64::from(database.work_connections) + u64::from(database.read_connections);
    let pools = pools + u64::from(database.gate_connections) + 2;
    let calls = executor.dials_in_flight + executor.inquiries_in_flight + config.notifier.in_flight;
    let taken = pools + u64::try_from(calls).unwrap_or(u64::MAX / 2) + OWN_DESCRIPTORS;
    usize::try_from((limit.saturating_sub(taken) / 2).max(CONNECTIONS_MIN)).ok()
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its first request.
    New,
    /// The rest of a request's head.
    Head,
    /// More of a request's body.
    Body,
    /// Us.
    Busy,
    /// Another request.
    Idle,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// The client has read nothing since.
    unread_since: Option<Instant>,
    /// A body was left in the middle.
    left_body: bool,
}

/// What a connection does, for those who decide whether it stays.
#[derive(Debug)]
struct Watch {
    state: Mutex<State>,
    /// Ends it.
    out: CancellationToken,
}

impl Watch {
    fn new() -> Arc<Self> {
        let state = State { phase: Phase::New, since: Instant::now(), unread_since: None, left_body: false };
        Arc::new(Self { state: Mutex::new(state), out: CancellationToken::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment: nothing is half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase != phase {
            (state.phase, state.since) = (phase, Instant::now());
        }
    }

    /// Bytes came.
    fn heard(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::New | Phase::Idle) {
            // A head's time runs from the moment the connection was there, or from its first byte after another request.
            let since = if state.phase == Phase::New { state.since } else { Instant::now() };
            (state.phase, state.since) = (Phase::Head, since);
        }
    }

    /// Whether its time is up.
    fn is_over(&self, settings: &Settings) -> bool {
        let state = self.state();
        let waited = state.since.elapsed();
        state.unread_since.is_some_and(|since| since.elapsed() >= settings.body)
            || match state.phase {
                Phase::New | Phase::Head => waited >= settings.header,
                Phase::Idle => waited >= settings.idle,
                Phase::Body | Phase::Busy => false,
            }
    }

    /// Whether a request is under way.
    fn is_at_work(&self) -> bool {
        let state = self.state();
        matches!(state.phase, Phase::Body | Phase::Busy) || state.unread_since.is_some()
    }

    /// How readily it is closed for somebody else, and how long it has waited: idle ones first; none: not at all.
    fn spared(&self) -> Option<(u8, Duration)> {
        let state = self.state();
        let waited = state.since.elapsed();
        let readily = match (state.unread_since, state.phase) {
            (Some(since), _) => (since.elapsed() >= BODY_MAY_TAKE).then_some(0),
            (None, Phase::Idle) => Some(2),
            (None, Phase::New | Phase::Head) => (waited >= HEAD_MAY_TAKE).then_some(1),
            (None, Phase::Body) => (waited >= BODY_MAY_TAKE).then_some(0),
            (None, Phase::Busy) => None,
        };
        readily.map(|readily| (readily, waited))
    }
}

/// Serves until `stopping`, and then until what is under way is done, `drain` at the most.
pub async fn serve(listener: TcpListener, router: Router, settings: Settings, stopping: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut watches: HashMap<Id, Arc<Watch>> = HashMap::new();
    let mut next: Option<(TcpStream, Peer)> = None;
    let mut failing = false;
    loop {
        if tasks.len() < settings.connections_max
            && let Some((stream, peer)) = next.take()
        {
            let watch = Watch::new();
            let task = connection((stream, peer), router.clone(), Arc::clone(&watch), settings, stopping.clone());
            watches.insert(tasks.spawn(task).id(), watch);
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                let id = ended.map_or_else(|panic| panic.id(), |(id, ())| id);
                watches.remove(&id);
            }
            accepted = listener.accept(), if next.is_none() => match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    let _ = stream.set_nodelay(true);
                    next = Some((stream, Peer(peer.ip())));
                }
                // The client's affair.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "no connection can be accepted at the moment");
                    }
                    make_room(&watches);
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE_AFTER_ERROR) => {}
                        () = stopping.cancelled() => break,
                    }
                }
            },
            () = tokio::time::sleep(LOOK_AGAIN), if next.is_some() => {}
        }
        if next.is_some() && tasks.len() >= settings.connections_max {
            make_room(&watches);
        }
    }
    drop((listener, next));
    let done = tokio::time::timeout(settings.drain, async { while tasks.join_next().await.is_some() {} });
    if done.await.is_err() {
        tracing::warn!(connections = tasks.len(), "clients did not finish in time: their connections are cut");
        tasks.shutdown().await;
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Closes the connection that is missed least, unless one is being closed already.
fn make_room(watches: &HashMap<Id, Arc<Watch>>) {
    if watches.values().any(|watch| watch.out.is_cancelled()) {
        return;
    }
    let spared = watches.values().filter_map(|watch| Some((watch.spared()?, watch)));
    if let Some((_, watch)) = spared.max_by_key(|(how, _)| *how) {
        watch.out.cancel();
    }
}

/// One connection to its end.
async fn connection(
    (stream, peer): (TcpStream, Peer),
    router: Router,
    watch: Arc<Watch>,
    settings: Settings,
    stopping: CancellationToken,
) {
    let service = {
        let watch = Arc::clone(&watch);
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let answered = answer(router.clone(), request, Arc::clone(&watch), settings.body);
            Box::pin(answered)
        })
    };
    let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch) });
    let mut serving =
        http1::Builder::new().header_read_timeout(None).max_buf_size(BUFFER_BYTES).serve_connection(io, service);
    let mut tick = tokio::time::interval(settings.tick());
    let mut asked_to_end = false;
    loop {
        tokio::select! {
            biased;
            ended = std::future::poll_fn(|context| serving.poll_without_shutdown(context)) => {
                if ended.is_err() {
                    return;
                }
                break;
            }
            () = watch.out.cancelled() => return,
            () = stopping.cancelled(), if !asked_to_end => {
                if !watch.is_at_work() {
                    return;
                }
                asked_to_end = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
            _ = tick.tick() => if watch.is_over(&settings) {
                return;
            },
        }
    }
    let mut stream = serving.into_parts().io.into_inner().stream;
    let left_body = watch.state().left_body;
    let farewell = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        // Closed with something unread, the connection would be reset, and the answer lost with it.
        while left_body && stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        _ = tokio::time::timeout(LINGER, farewell) => {}
        () = watch.out.cancelled() => {}
        () = stopping.cancelled() => {}
    }
}

/// One request.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    watch: Arc<Watch>,
    patience: Duration,
) -> Result<Response<Body>, Infallible> {
    watch.enter(Phase::Busy);
    let under_way = UnderWay(Arc::clone(&watch));
    let request = request.map(|inner| Body::new(Arriving::new(inner, watch, patience)));
    let Ok(response) = router.oneshot(request).await;
    Ok(response.map(|body| Keeping::body(body, under_way)))
}

/// Dropped with the answer: then the connection is free for another request.
struct UnderWay(Arc<Watch>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// A request's body, which must not stall.
struct Arriving {
    inner: Incoming,
    watch: Arc<Watch>,
    patience: Duration,
    /// Since when more is waited for.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    bytes: u64,
    ended: bool,
}

impl Arriving {
    fn new(inner: Incoming, watch: Arc<Watch>, patience: Duration) -> Self {
        let ended = inner.is_end_stream();
        Self { inner, watch, patience, waiting: None, waited: Duration::ZERO, bytes: 0, ended }
    }

    /// How long the next piece may take. On the whole a body has its patience, and a second for each KiB that came; only the time
    /// we wait for it counts.
    fn may_take(&self) -> Duration {
        let allowed = self.patience.saturating_add(Duration::from_secs(self.bytes / 1024));
        allowed.saturating_sub(self.waited).min(self.patience)
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(context) {
            if let Some((since, _)) = self.waiting.take() {
                self.waited += since.elapsed();
                self.watch.enter(Phase::Busy);
            }
            match &next {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    self.bytes += u64::try_from(bytes).unwrap_or_default();
                }
                Some(Err(_)) => {}
            }
            return Poll::Ready(next.map(|next| next.map_err(Into::into)));
        }
        let may_take = self.may_take();
        let this = &mut *self;
        let (_, patience) = this.waiting.get_or_insert_with(|| {
            this.watch.enter(Phase::Body);
            (Instant::now(), Box::pin(tokio::time::sleep(may_take)))
        });
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.watch.enter(Phase::Busy);
        }
        if !self.ended && !self.inner.is_end_stream() {
            self.watch.state().left_body = true;
        }
    }
}

/// A socket that tells its watch what goes through it.
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl Watched {
    /// Notes whether the client takes what is written.
    fn taken<T>(&self, written: &Poll<T>) {
        let mut state = self.watch.state();
        match written {
            Poll::Ready(_) => state.unread_since = None,
            Poll::Pending => {
                state.unread_since.get_or_insert_with(Instant::now);
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.watch.heard();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taken(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.taken(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
