//! The addresses of a server that has a name.
//!
//! Owns: [`resolve`]. Must not know: the plan, the protocol.

use std::net::SocketAddr;

use super::Error;
use crate::reactor::{Poster, Reactor};
use crate::resolver::{HostPort, ResolveError};
use crate::service::{Context, Receive, Service, ServiceContext};

/// The addresses of a name, or the reason why there are none.
type Found = Result<Vec<SocketAddr>, ResolveError>;

/// Returns the addresses of `name`, in the order of getaddrinfo(3). `None` if SIGINT or SIGTERM has come before the answer.
///
/// # Errors
/// [`Error::Resolve`] with the reason, and [`Error::Reactor`].
pub fn resolve(name: HostPort) -> Result<Option<Vec<SocketAddr>>, Error> {
    let mut reactor = Reactor::new().map_err(Error::Reactor)?;
    reactor.handle_signals().map_err(Error::Reactor)?;
    run_lookup(&mut reactor, name)
}

fn run_lookup(reactor: &mut Reactor, name: HostPort) -> Result<Option<Vec<SocketAddr>>, Error> {
    let lookup = reactor.add_service_with("resolve", |poster| Lookup { poster, name, found: None });
    reactor.run().map_err(Error::Reactor)?;
    let found = reactor.service_mut::<Lookup>(lookup).and_then(|lookup| lookup.found.take());
    found.transpose().map_err(Error::Resolve)
}

/// Looks up one name, and stops the reactor.
struct Lookup {
    poster: Poster<Found>,
    name: HostPort,
    found: Option<Found>,
}

impl Service for Lookup {
    fn on_start(&mut self, ctx: &mut ServiceContext) {
        if let Err(error) = self.poster.resolve(self.name.clone(), |found| found) {
            self.found = Some(Err(ResolveError::new(&self.name.host, &error.to_string())));
            ctx.stop_reactor();
        }
    }

    fn on_data(&mut self, _: &mut Context<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

impl Receive<Found> for Lookup {
    fn on_post(&mut self, ctx: &mut ServiceContext, found: Found) {
        self.found = Some(found);
        ctx.stop_reactor();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> HostPort {
        HostPort { host: host.to_owned(), port: 7 }
    }

    #[test]
    fn a_lookup_ends_with_addresses_an_error_or_a_stop() {
        let found = resolve(name("127.0.0.1")).unwrap();
        assert_eq!(found, Some(vec![([127, 0, 0, 1], 7).into()]));
        // getaddrinfo(3) takes no string with a NUL byte: this name fails without a name server.
        let error = resolve(name("no\0name")).unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve no\0name: "), "{error}");
        let mut reactor = Reactor::new().unwrap();
        reactor.handle().stop();
        // The stop comes first: in one turn with the lookup, a fast answer would come before it.
        reactor.turn().unwrap();
        assert!(matches!(run_lookup(&mut reactor, name("127.0.0.1")), Ok(None)));
    }
}
