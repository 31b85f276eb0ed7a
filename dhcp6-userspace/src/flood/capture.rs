//! Frames from a file.

use std::{fs::File, io::BufReader, path::Path};

use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

/// Octets of the shortest frame: an Ethernet header.
const SHORTEST: usize = 14;
/// What a pcapng file begins with.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The Ethernet frames of a capture, in their order.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    pub(super) frames: Vec<Box<[u8]>>,
    /// Frames that are left out: those that were not captured whole, or are too short to be one.
    pub(super) skipped: u64,
}

/// Why a file has no frames to send.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// It is neither pcap nor pcapng, or damaged.
    #[error("it is neither a pcap nor a pcapng file, or damaged: {0}")]
    Format(#[from] PcapError),
    /// The frames are not Ethernet's.
    #[error(
        "its frames are of type {0:?}; only Ethernet frames can be sent: capture on one interface, not on `any`"
    )]
    Link(DataLink),
    /// Nothing to send.
    #[error("there is no whole frame in it")]
    Empty,
}

impl Capture {
    /// Reads a file in the format pcap or pcapng.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn read(path: &Path) -> Result<Self, CaptureError> {
        let mut capture = Self::default();
        let mut start = [0; 4];
        std::io::Read::read_exact(&mut File::open(path)?, &mut start)?;
        let file = BufReader::new(File::open(path)?);
        if start == PCAPNG {
            capture.read_pcapng(file)?;
        } else {
            capture.read_pcap(file)?;
        }
        if capture.frames.is_empty() { Err(CaptureError::Empty) } else { Ok(capture) }
    }

    /// How many frames there are.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    fn read_pcap(&mut self, file: BufReader<File>) -> Result<(), CaptureError> {
        let mut reader = PcapReader::new(file)?;
        is_ethernet(reader.header().datalink)?;
        while let Some(packet) = reader.next_packet() {
            let packet = packet?;
            self.add(&packet.data, packet.orig_len);
        }
        Ok(())
    }

    fn read_pcapng(&mut self, file: BufReader<File>) -> Result<(), CaptureError> {
        let mut reader = PcapNgReader::new(file)?;
        while let Some(block) = reader.next_block() {
            match block? {
                Block::InterfaceDescription(interface) => is_ethernet(interface.linktype)?,
                Block::EnhancedPacket(packet) => self.add(&packet.data, packet.original_len),
                Block::SimplePacket(packet) => self.add(&packet.data, packet.original_len),
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, octets: &[u8], whole: u32) {
        if octets.len() < SHORTEST || octets.len() < whole as usize {
            self.skipped += 1;
        } else {
            self.frames.push(octets.into());
        }
    }
}

fn is_ethernet(link: DataLink) -> Result<(), CaptureError> {
    if link == DataLink::ETHERNET { Ok(()) } else { Err(CaptureError::Link(link)) }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use pcap_file::{
        DataLink,
        pcap::{PcapHeader, PcapPacket, PcapWriter},
        pcapng::{
            PcapNgWriter,
            blocks::{
                enhanced_packet::EnhancedPacketBlock, interface_description::InterfaceDescriptionBlock,
            },
        },
    };
    use tempfile::TempDir;

    use super::{Capture, CaptureError};

    /// Frames with their lengths on the wire.
    const FRAMES: [(&[u8], u32); 4] = [(&[1; 60], 60), (&[2; 60], 61), (&[3; 13], 13), (&[4; 90], 90)];

    fn pcap(datalink: DataLink) -> Vec<u8> {
        let header = PcapHeader { datalink, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (octets, whole) in FRAMES {
            writer.write_packet(&PcapPacket::new(Duration::ZERO, whole, octets)).unwrap();
        }
        writer.into_writer()
    }

    fn pcapng(linktype: DataLink) -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        writer
            .write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen: 0, options: vec![] })
            .unwrap();
        for (octets, original_len) in FRAMES {
            let (timestamp, data) = (Duration::ZERO, octets.into());
            let block =
                EnhancedPacketBlock { interface_id: 0, timestamp, original_len, data, options: vec![] };
            writer.write_pcapng_block(block).unwrap();
        }
        writer.into_inner()
    }

    fn read(octets: &[u8]) -> Result<Capture, CaptureError> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, octets).unwrap();
        Capture::read(&path)
    }

    #[test]
    fn whole_frames_are_taken_from_both_formats() {
        for octets in [pcap(DataLink::ETHERNET), pcapng(DataLink::ETHERNET)] {
            let Capture { frames, skipped } = read(&octets).unwrap();
            assert_eq!(frames, [Box::from([1; 60]), Box::<[u8]>::from([4; 90])]);
            assert_eq!(skipped, 2, "one that is cut off, and one without a header");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for octets in [pcap(DataLink::LINUX_SLL), pcapng(DataLink::LINUX_SLL)] {
            assert!(matches!(read(&octets), Err(CaptureError::Link(DataLink::LINUX_SLL))));
        }
        assert!(matches!(read(b"[server]\nstate_dir = \"/tmp\"\n"), Err(CaptureError::Format(_))));
        assert!(matches!(read(b"ab"), Err(CaptureError::File(_))));
        let whole = pcap(DataLink::ETHERNET);
        assert!(matches!(read(&whole[..24]), Err(CaptureError::Empty)));
        assert!(read(&whole[..50]).is_err(), "a file that was cut off");
    }
}
