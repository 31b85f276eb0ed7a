//! Which frames a packet socket is shown: a program for the kernel (classic BPF).

use dhcp6_common::wire::ALL_RELAY_AGENTS_AND_SERVERS;
use nix::libc;
use socket2::SockFilter;

use super::{
    frame::{C_TAG, VLAN_ID},
    packet::{
        filter::{IF_EQUAL, LOAD_HALF as LOAD_FACT, RETURN},
        step,
    },
};

/// Frames that a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Those without a VLAN.
    pub untagged: bool,
    /// Those in VLANs.
    pub tagged: bool,
}

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_OCTET: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// Sets the index register, which is added to the offsets above.
const INDEX: u32 = libc::BPF_LDX | libc::BPF_IMM;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const IF_GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;

/// Where a step leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Untagged,
    InnerTag,
    Packet,
    Header,
    Accept,
    Reject,
}

enum Line {
    Label(Label),
    Step(u32, u32),
    /// To the first label where it holds, and to the second where not.
    If(u32, u32, Label, Label),
}

/// A program that shows what clients send to ff02::1:2 and a UDP port, and what goes to the group in fragments or behind
/// extension headers, which it does not follow. It shows nothing that this host sends, or that is for another host.
///
/// The outer tag is beside the frame, and its type was found to be 0x8100 or 0x88a8 when it was taken off.
pub(super) fn filter(port: u16, heard: Heard) -> Vec<SockFilter> {
    use Label::{Accept, Header, InnerTag, Next, Packet, Reject, Untagged};
    const IPV6: u32 = libc::ETH_P_IPV6.cast_unsigned();
    // Offsets in a frame without a tag.
    const TYPE: u32 = 12;
    const BEHIND_TYPE: u32 = 14;
    const NEXT_HEADER: u32 = 20;
    const DESTINATION: u32 = 38;
    const DESTINATION_PORT: u32 = 56;
    const INNER_TAG_LEN: u32 = 4;
    let fact = |what: i32| Line::Step(LOAD_FACT, (libc::SKF_AD_OFF + what).cast_unsigned());
    let only_if = |is_heard, label| if is_heard { label } else { Reject };
    let mut lines = vec![
        fact(libc::SKF_AD_PKTTYPE),
        Line::If(IF_GREATER, libc::PACKET_MULTICAST.into(), Reject, Next),
        Line::Step(INDEX, 0),
        fact(libc::SKF_AD_VLAN_TAG_PRESENT),
        Line::If(IF_EQUAL, 0, only_if(heard.untagged, Untagged), Next),
        fact(libc::SKF_AD_VLAN_TAG),
        Line::Step(AND, VLAN_ID.into()),
        Line::If(IF_EQUAL, 0, only_if(heard.untagged, Untagged), only_if(heard.tagged, Next)),
        Line::Step(LOAD_HALF, TYPE),
        Line::If(IF_EQUAL, IPV6, Packet, Next),
        Line::If(IF_EQUAL, C_TAG.into(), InnerTag, Reject),
        Line::Label(Untagged),
        Line::Step(LOAD_HALF, TYPE),
        Line::If(IF_EQUAL, IPV6, Packet, Reject),
        Line::Label(InnerTag),
        Line::Step(LOAD_HALF, BEHIND_TYPE),
        Line::Step(AND, VLAN_ID.into()),
        Line::If(IF_EQUAL, 0, Reject, Next),
        Line::Step(INDEX, INNER_TAG_LEN),
        Line::Step(LOAD_HALF, TYPE),
        Line::If(IF_EQUAL, IPV6, Packet, Reject),
        Line::Label(Packet),
    ];
    for (word, offset) in ALL_RELAY_AGENTS_AND_SERVERS.chunks(4).zip((DESTINATION..).step_by(4)) {
        let word = word.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
        lines.extend([Line::Step(LOAD_WORD, offset), Line::If(IF_EQUAL, word, Next, Reject)]);
    }
    lines.extend([
        Line::Step(LOAD_OCTET, NEXT_HEADER),
        Line::If(IF_EQUAL, libc::IPPROTO_UDP.cast_unsigned(), Header, Next),
        Line::If(IF_EQUAL, libc::IPPROTO_HOPOPTS.cast_unsigned(), Accept, Next),
        Line::If(IF_EQUAL, libc::IPPROTO_DSTOPTS.cast_unsigned(), Accept, Next),
        Line::If(IF_EQUAL, libc::IPPROTO_FRAGMENT.cast_unsigned(), Accept, Reject),
        Line::Label(Header),
        Line::Step(LOAD_HALF, DESTINATION_PORT),
        Line::If(IF_EQUAL, port.into(), Accept, Reject),
        Line::Label(Accept),
        Line::Step(RETURN, u32::MAX),
        Line::Label(Reject),
        Line::Step(RETURN, 0),
    ]);
    assemble(&lines)
}

/// Counts the steps to skip for each label.
fn assemble(lines: &[Line]) -> Vec<SockFilter> {
    let mut position = 0;
    let mut labels = Vec::new();
    for line in lines {
        match line {
            Line::Label(label) => labels.push((*label, position)),
            _ => position += 1,
        }
    }
    let mut steps = Vec::with_capacity(position);
    for line in lines {
        let skip = |to: Label| {
            let position = labels.iter().find_map(|(label, position)| (*label == to).then_some(*position));
            // The next step has no label.
            position.map_or(0, |position| (position - steps.len() - 1) as u8)
        };
        let step = match *line {
            Line::Label(_) => continue,
            Line::Step(code, operand) => step(code, 0, 0, operand),
            Line::If(code, operand, holds, other) => step(code, skip(holds), skip(other), operand),
        };
        steps.push(step);
    }
    steps
}
