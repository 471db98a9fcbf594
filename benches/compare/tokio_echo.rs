//! Echo on tokio: one task per connection, all on one thread, as tokio's documentation shows it.

use std::io::{self, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Serves at `addr` until the process ends.
pub fn serve(addr: &str) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind(addr).await?;
        writeln!(io::stdout(), "listening echo tcp {}", listener.local_addr()?)?;
        loop {
            let (peer, _) = listener.accept().await?;
            tokio::spawn(echo(peer));
        }
    })
}

async fn echo(mut peer: TcpStream) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match peer.read(&mut buffer).await? {
            0 => return Ok(()),
            n => peer.write_all(&buffer[..n]).await?,
        }
    }
}
