//! TLS around any service: here the HTTP service of the crate, over HTTPS.
//!
//! - **Run** `openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost
//!   -addext subjectAltName=DNS:localhost`, and then `cargo run --release --example tls 127.0.0.1:28443 cert.pem key.pem`.
//! - **Try** `curl --cacert cert.pem https://localhost:28443/time`, and `openssl s_client -connect 127.0.0.1:28443`.
//! - **Notice** that a service only records commands, so an adapter can stand between a service and the reactor. [`Tls`] gives
//!   the bytes to rustls, which does no input or output of its own, and calls the inner service with the plaintext. It then
//!   translates the commands that the service has recorded: a `send` becomes records, and a `finish` sends close_notify first.
//!   All other commands stay as they are. A FIN without close_notify may come from an attacker who cuts the stream, so the
//!   inner service sees a reset and not an end of file.

use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, mem, process};

use reactor::service::{Command, Outbox};
use reactor::services::{Http, Settings};
use reactor::{
    CloseReason, ConnId, ConnMap, Context, Deadline, ListenOptions, Policy, Reactor, Receive, Service, ServiceContext,
    TimerName,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection};

/// The time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The silence after which a connection of a stopping reactor is quiet.
const QUIET: Duration = Duration::from_millis(250);

/// The most plaintext that waits for the inner service, in bytes. Above that, records stay unread, which has a bound, too.
const MAX_UNREAD: usize = 4 * 1024 * 1024;

struct Peer {
    tls: ServerConnection,
    /// The plaintext that the inner service has not consumed.
    unread: Vec<u8>,
    /// The handshake is over, and the inner service knows the connection.
    is_open: bool,
    is_paused: bool,
    /// close_notify has arrived, and the inner service has not had the end of file.
    owes_end: bool,
}

impl Peer {
    /// Returns the records for `plaintext`, after those that the protocol itself has to send.
    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        // No limit is set, and a vector takes all bytes: neither call fails.
        let _ = self.tls.writer().write_all(plaintext);
        while self.tls.wants_write() && self.tls.write_tls(&mut records).is_ok() {}
        records
    }
}

/// A service whose connections are encrypted. The inner service may neither dial nor listen: the parameters of such a command
/// stay in the outbox that recorded it.
struct Tls<S> {
    config: Arc<ServerConfig>,
    service: S,
    peers: ConnMap<Peer>,
}

impl<S: Service> Tls<S> {
    /// Calls the inner service with an empty outbox, and records the translation of its commands. `input` is the plaintext of
    /// the connection at hand.
    fn call<R, F>(&mut self, ctx: &mut ServiceContext, input: Option<(ConnId, &[u8])>, callback: F) -> R
    where
        F: FnOnce(&mut S, &mut ServiceContext) -> R,
    {
        let before = mem::take(ctx.outbox_mut());
        let result = callback(&mut self.service, ctx);
        let recorded = mem::replace(ctx.outbox_mut(), before);
        recorded.commands().iter().for_each(|&command| self.translate(ctx.outbox_mut(), command, &recorded, input));
        result
    }

    /// Calls the inner service about a connection, with its unread plaintext, if the service knows the connection.
    fn call_about<R, F>(&mut self, ctx: &mut Context<'_>, callback: F) -> Option<R>
    where
        F: FnOnce(&mut S, &mut Context<'_>, &[u8]) -> R,
    {
        let id = ctx.id();
        let unread = mem::take(&mut self.peers.get_mut(id).filter(|peer| peer.is_open)?.unread);
        let input = Some((id, &unread[..]));
        let result = self.call(ctx, input, |service, ctx| callback(service, &mut Context::new(ctx, id), &unread));
        self.peers.get_mut(id)?.unread = unread;
        Some(result)
    }

    fn translate(&mut self, outbox: &mut Outbox, command: Command, of: &Outbox, input: Option<(ConnId, &[u8])>) {
        let mut seal = |to, text: &[u8]| self.peers.get_mut(to).map(|peer| peer.seal(text)).unwrap_or_default();
        match (command, input) {
            (Command::Send { to, bytes }, _) => outbox.send(to, &seal(to, of.bytes(bytes))),
            (Command::SendInput { part }, Some((id, input))) => {
                outbox.send(id, &seal(id, &input[part.start..part.end]))
            }
            (Command::Broadcast { to, bytes }, _) => {
                of.recipients(to).iter().for_each(|&to| outbox.broadcast(&[to], &seal(to, of.bytes(bytes))));
            }
            // Without the alert, the peer could not tell the end from an attack.
            (Command::Finish { of } | Command::HalfClose { of }, _) => {
                if let Some(peer) = self.peers.get_mut(of) {
                    peer.tls.send_close_notify();
                    outbox.send(of, &peer.seal(b""));
                }
                outbox.push(command);
            }
            // The reactor would finish without the alert: a silence stands for the quiet.
            (Command::FinishWhenQuiet { of }, _) => {
                outbox.push(Command::SetTimeout { of, which: Deadline::Idle, timeout: QUIET.into() });
            }
            (Command::Pause { of } | Command::Resume { of }, _) => {
                if let Some(peer) = self.peers.get_mut(of) {
                    peer.is_paused = matches!(command, Command::Pause { .. });
                }
                outbox.push(command);
                // `on_drain` offers the plaintext that is unread.
                outbox.push(Command::AwaitDrain { of });
            }
            _ => outbox.push(command),
        }
    }

    /// Offers the unread plaintext, and then the end of file.
    fn offer(&mut self, ctx: &mut Context<'_>) {
        let id = ctx.id();
        if self.peers.get(id).is_some_and(|peer| !peer.is_paused && !peer.unread.is_empty()) {
            let consumed = self.call_about(ctx, |service, ctx, input| service.on_data(ctx, input).min(input.len()));
            self.peers.get_mut(id).map(|peer| peer.unread.drain(..consumed.unwrap_or(0)));
        }
        let Some(peer) = self.peers.get_mut(id).filter(|peer| !peer.is_paused) else { return };
        if ctx.is_congested() {
            // The kernel may take the output at once, without an event.
            ctx.await_drain();
        } else if mem::take(&mut peer.owes_end) {
            self.call_about(ctx, |service, ctx, rest| service.on_eof(ctx, rest));
        }
    }
}

impl<S: Service> Service for Tls<S> {
    fn on_open(&mut self, ctx: &mut Context<'_>) {
        let Ok(mut tls) = ServerConnection::new(Arc::clone(&self.config)) else { return ctx.reset() };
        tls.set_buffer_limit(None);
        self.peers
            .insert(ctx.id(), Peer { tls, unread: Vec::new(), is_open: false, is_paused: false, owes_end: false });
        ctx.set_deadline(Deadline::Read, ctx.now() + HANDSHAKE);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, input: &[u8]) -> usize {
        let mut rest = input;
        while !rest.is_empty()
            && let Some(peer) = self.peers.get_mut(ctx.id())
            && !(peer.is_paused || peer.unread.len() > MAX_UNREAD || peer.is_open && ctx.is_congested())
        {
            // After close_notify, rustls reads no more.
            let Ok(1..) = peer.tls.read_tls(&mut rest) else { return input.len() };
            let outcome = peer.tls.process_new_packets();
            ctx.send(&peer.seal(b""));
            let Ok(state) = outcome else {
                ctx.reset();
                return input.len();
            };
            // Appends all plaintext, and returns the error that there is no more.
            let _ = peer.tls.reader().read_to_end(&mut peer.unread);
            peer.owes_end |= state.peer_has_closed();
            if !peer.is_open && !peer.tls.is_handshaking() {
                peer.is_open = true;
                ctx.restore_timeout(Deadline::Read);
                self.call_about(ctx, |service, ctx, _| service.on_open(ctx));
            }
            self.offer(ctx);
        }
        input.len() - rest.len()
    }

    /// A FIN without close_notify may come from an attacker who cuts the stream.
    fn on_eof(&mut self, ctx: &mut Context<'_>, _: &[u8]) {
        let state = self.peers.get_mut(ctx.id()).and_then(|peer| peer.tls.process_new_packets().ok());
        if !state.is_some_and(|state| state.peer_has_closed()) {
            ctx.reset();
        }
    }

    fn on_deadline(&mut self, ctx: &mut Context<'_>, which: Deadline) {
        let is_quiet = which == Deadline::Idle && ctx.is_stopping();
        let called = self.call_about(ctx, |service, ctx, _| match is_quiet {
            true => ctx.finish(),
            false => service.on_deadline(ctx, which),
        });
        called.unwrap_or_else(|| ctx.abort_because(CloseReason::Deadline(which)));
    }

    fn on_drain(&mut self, ctx: &mut Context<'_>) {
        self.call_about(ctx, |service, ctx, _| service.on_drain(ctx));
        self.offer(ctx);
    }

    fn on_stop(&mut self, ctx: &mut Context<'_>) {
        self.call_about(ctx, |service, ctx, _| service.on_stop(ctx)).unwrap_or_else(|| ctx.finish());
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, reason: CloseReason) {
        self.call_about(ctx, |service, ctx, _| service.on_close(ctx, reason));
        self.peers.remove(ctx.id());
    }

    fn on_peer_closed(&mut self, ctx: &mut Context<'_>) {
        self.call_about(ctx, |service, ctx, _| service.on_peer_closed(ctx));
    }

    fn on_start(&mut self, ctx: &mut ServiceContext) {
        self.call(ctx, None, |service, ctx| service.on_start(ctx));
    }

    fn on_timer(&mut self, ctx: &mut ServiceContext, timer: TimerName) {
        self.call(ctx, None, |service, ctx| service.on_timer(ctx, timer));
    }

    fn on_turn(&mut self, ctx: &mut ServiceContext) {
        self.call(ctx, None, |service, ctx| service.on_turn(ctx));
    }

    fn on_stopping(&mut self, ctx: &mut ServiceContext) {
        self.call(ctx, None, |service, ctx| service.on_stopping(ctx));
    }
}

impl<M, S: Service + Receive<M>> Receive<M> for Tls<S> {
    fn on_post(&mut self, ctx: &mut ServiceContext, message: M) {
        self.call(ctx, None, |service, ctx| service.on_post(ctx, message));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let ([_, cert, key], Some(Ok(addr))) = (&args[..], args.first().map(|addr| addr.parse::<SocketAddr>())) else {
        eprintln!("usage: tls LISTEN CERT KEY   (an address and two files, as 127.0.0.1:28443 cert.pem key.pem)");
        process::exit(2);
    };
    let certs = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let certs = certs.map_err(|error| format!("cannot read {cert}: {error}"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("cannot read {key}: {error}"))?;
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key)?);
    let service = Http::new(&Settings::default(), "<!DOCTYPE html><title>tls</title><p>HTTP behind TLS.".to_owned());

    let mut reactor = Reactor::new()?;
    reactor.handle_signals()?;
    let tls = reactor.add_service("tls", Box::new(Tls { config, service, peers: ConnMap::new() }));
    let listened = reactor.listen(tls, addr, &ListenOptions::default(), Policy::default());
    let (_, addr) = listened.map_err(|error| format!("cannot listen on {addr}: {error}"))?;
    println!("listening tls tcp {addr}");
    Ok(reactor.run().map(drop)?)
}
