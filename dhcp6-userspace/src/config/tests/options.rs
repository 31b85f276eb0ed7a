//! `[link.options]`

use dhcp6_common::wire::OptionCode;

use super::{link, mistakes, with_link};
use crate::config::{Config, ConfiguredOption};

#[test]
fn options_are_encoded_as_on_the_wire() {
    let options = link(
        "[link.options]\ndns_servers = [\"2001:db8::53\", \"2001:db8::54\"]\n\
         domain_search = [\"example.net\", \"b.\"]\nntp_servers = [\"2001:db8::7b\", \"ff05::101\", \"t.example\"]\n\
         custom = [{ code = 65535, hex = \"00fF\" }, { code = 82, hex = \"00:00:0e:10\" }, { code = 99, hex = \"\" }]\n",
    )
    .options;
    let hex = |option: &ConfiguredOption| -> String {
        option.value.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().concat()
    };
    let encoded: Vec<(OptionCode, String)> =
        options.iter().map(|option| (option.code, hex(option))).collect();
    let expected = [
        (OptionCode::DNS_SERVERS, "20010db800000000000000000000005320010db8000000000000000000000054"),
        (OptionCode::DOMAIN_SEARCH, "076578616d706c65036e657400016200"),
        (OptionCode::NTP_SERVER, "0001001020010db800000000000000000000007b"),
        (OptionCode::NTP_SERVER, "00020010ff050000000000000000000000000101"),
        (OptionCode::NTP_SERVER, "0003000b0174076578616d706c6500"),
        (OptionCode(65535), "00ff"),
        (OptionCode(82), "00000e10"),
        (OptionCode(99), ""),
    ];
    assert_eq!(encoded, expected.map(|(code, value)| (code, value.to_owned())));
}

#[test]
fn an_independent_decoder_reads_the_same_options() {
    use dhcproto::{
        Decodable, Decoder,
        v6::{DhcpOption, NtpSuboption},
    };

    let options = link(
        "[link.options]\ndns_servers = [\"2001:db8::53\"]\ndomain_search = [\"example.net\", \"example.org\"]\n\
         ntp_servers = [\"ntp.example.net\"]\n",
    )
    .options;
    let decoded: Vec<DhcpOption> = options
        .iter()
        .map(|option| {
            let mut octets = option.code.0.to_be_bytes().to_vec();
            octets.extend((option.value.len() as u16).to_be_bytes());
            octets.extend(&option.value);
            DhcpOption::decode(&mut Decoder::new(&octets)).unwrap()
        })
        .collect();
    let [
        DhcpOption::DomainNameServers(servers),
        DhcpOption::DomainSearchList(names),
        DhcpOption::NtpServer(sources),
    ] = &decoded[..]
    else {
        panic!("{decoded:?}")
    };
    assert_eq!(servers[0].to_string(), "2001:db8::53");
    assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["example.net.", "example.org."]);
    let [NtpSuboption::FQDN(name)] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(name.to_string(), "ntp.example.net.");
}

#[test]
fn options_are_checked() {
    let options = |rest: &str| format!("[link.options]\n{rest}\n");
    for (rest, expected) in [
        ("dns_servers = []", "`dns_servers` is empty; leave it out to send no such option"),
        ("dns_servers = [\"192.0.2.1\"]", "`dns_servers`: `192.0.2.1` is not an IPv6 address"),
        ("dns_servers = [\"::\"]", "`dns_servers`: :: is not the address of a server"),
        ("domain_search = [\"\"]", "`domain_search`: \"\" is no domain name: it has an empty label"),
        ("domain_search = [\"a..b\"]", "`domain_search`: \"a..b\" is no domain name: it has an empty label"),
        ("sol_max_rt = 59", "`sol_max_rt`: \"59\" is not within 60 and 86400 seconds"),
        ("inf_max_rt = \"2d\"", "`inf_max_rt`: \"2d\" is not within 60 and 86400 seconds"),
        (
            "information_refresh_time = \"9m\"",
            "`information_refresh_time`: \"9m\" is not within 600 and 4294967295 seconds",
        ),
        ("sntp_servers = [\"ff02::1\"]", "`sntp_servers`: ff02::1 is not the address of a server"),
        (
            "ntp_servers = [\"192.0.2.1\"]",
            "`ntp_servers`: `192.0.2.1` is neither an IPv6 address nor a domain name",
        ),
        (
            "ntp_servers = [\"2001:db8::g\"]",
            "`ntp_servers`: `2001:db8::g` is neither an IPv6 address nor a domain name",
        ),
        ("custom = [{ code = 0, hex = \"\" }]", "`code`: 0 is not between 1 and 65535"),
        ("custom = [{ code = 65536, hex = \"\" }]", "`code`: 65536 is not between 1 and 65535"),
        ("custom = [{ code = 99, hex = \"abc\" }]", "`hex`: \"abc\" is not pairs of hexadecimal digits"),
        ("custom = [{ code = 99, hex = \"a:bc\" }]", "`hex`: \"a:bc\" is not pairs of hexadecimal digits"),
        ("custom = [{ code = 99, hex = \"zz\" }]", "`hex`: \"zz\" is not pairs of hexadecimal digits"),
        ("custom = [{ code = 99 }]", "`hex` is missing in `custom`"),
        ("custom = [{ hex = \"\" }]", "`code` is missing in `custom`"),
        (
            "custom = [{ code = 99, hex = \"\" }, { code = 99, hex = \"\" }]",
            "`custom`: option 99 is already set on line 6",
        ),
        (
            "dns_servers = [\"2001:db8::53\"]\ncustom = [{ code = 23, hex = \"\" }]",
            "`custom`: option 23 is already set on line 6",
        ),
    ] {
        let mistakes = mistakes(&with_link(&options(rest)));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!(mistakes[0].split_once(": ").unwrap().1, expected);
    }
    for code in
        (1..=9).chain(11..=14).chain(18..=20).chain(25..=26).chain([37, 38, 39, 43, 66, 67, 79, 135, 148])
    {
        let mistakes = mistakes(&with_link(&options(&format!("custom = [{{ code = {code}, hex = \"\" }}]"))));
        let expected = format!("6: `code`: option {code} is the protocol's own and cannot be set");
        assert_eq!(mistakes, [expected], "matrix rows O-2, O-9, O-11, O-16, S-20, E-24");
    }
}

#[test]
fn longest_times_have_their_bounds_in_octets_too() {
    for code in [82, 83] {
        for (hex, is_right) in [
            ("0000003c", true),
            ("00015180", true),
            ("0000003b", false),
            ("00015181", false),
            ("003c", false),
            ("000000003c", false),
        ] {
            let custom = format!("custom = [{{ code = {code}, hex = \"{hex}\" }}]");
            let text = with_link(&format!("[link.options]\n{custom}\n"));
            let found = Config::parse(&text, "test.toml").map_err(|errors| errors.to_string());
            let expected = format!("`custom`: option {code} is 4 octets for 60 to 86400 seconds");
            assert_eq!(found.is_ok(), is_right, "matrix row O-12: {code}, {hex}");
            assert!(found.err().is_none_or(|errors| errors.contains(&expected)), "{hex}");
        }
    }
}

#[test]
fn domain_names_have_the_limits_of_dns() {
    let label = |len| "a".repeat(len);
    let name = |last| [label(63), label(63), label(63), label(last)].join(".");
    for (name, valid) in [
        (label(63), true),
        (label(64), false),
        (name(61), true),
        (name(62), false),
        ("_service.example".to_owned(), true),
        ("xn--bcher-kva.example".to_owned(), true),
        ("b\u{fc}cher.example".to_owned(), false),
        ("a b".to_owned(), false),
        (".".to_owned(), false),
    ] {
        let mistakes = mistakes(&with_link(&format!("[link.options]\ndomain_search = [\"{name}\"]\n")));
        assert_eq!(mistakes.is_empty(), valid, "{name}: {mistakes:?}");
    }
}

#[test]
fn pools_and_reservations_have_options_of_their_own() {
    let link = link(
        "[[link.pool]]\nrange = \"2001:db8:1::1-2001:db8:1::2\"\n[link.pool.options]\nsol_max_rt = 60\n\
         [[link.prefix_pool]]\nprefix = \"2001:db8:8000::/36\"\ndelegated_length = 56\n\
         options = { inf_max_rt = 61 }\n\
         [[link.reservation]]\nduid = \"00:01\"\n\
         [link.reservation.options]\ncustom = [{ code = 99, hex = \"\" }]\n\
         [link.options]\nsol_max_rt = 62\n",
    );
    let option = |code, value: &[u8]| [ConfiguredOption { code, value: value.to_vec() }];
    assert_eq!(link.pools[0].options, option(OptionCode::SOL_MAX_RT, &[0, 0, 0, 60]));
    assert_eq!(link.prefix_pools[0].options, option(OptionCode::INF_MAX_RT, &[0, 0, 0, 61]));
    assert_eq!(link.reservations[0].options, option(OptionCode(99), &[]));
    assert_eq!(link.options, option(OptionCode::SOL_MAX_RT, &[0, 0, 0, 62]));

    let text = with_link(
        "[[link.pool]]\nrange = \"2001:db8:1::1\"\n[link.pool.options]\ndns = []\nsol_max_rt = 1\n\
         [[link.reservation]]\nduid = \"00:01\"\noptions = { dns_servers = [] }\n",
    );
    assert_eq!(
        mistakes(&text),
        [
            "8: unknown key `dns` in [link.pool.options]; did you mean `dns_servers`?",
            "9: `sol_max_rt`: \"1\" is not within 60 and 86400 seconds",
            "12: `dns_servers` is empty; leave it out to send no such option",
        ]
    );
}
