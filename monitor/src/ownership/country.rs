//! Which two letters are a country.

use super::CountryCode;

/// The codes that ISO 3166-1 assigns, as of 2026-01, in order.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO \
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM \
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// What registries write beside them: Europe and the region of APNIC as a whole, and Kosovo.
const OF_REGISTRIES: [&str; 3] = ["AP", "EU", "XK"];

impl CountryCode {
    /// Whether ISO 3166-1 assigns the code, or the registries of addresses use it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        OF_REGISTRIES.contains(&self.as_str()) || ASSIGNED.split(' ').any(|code| code == self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Table;

    #[test]
    fn every_country_of_the_ownership_data_is_known_and_others_are_not() {
        let unknown = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let table = Table::embedded().unwrap();
        let note = |code: Option<CountryCode>| unknown.borrow_mut().extend(code.filter(|code| !code.is_known()));
        let _ = table.prefixes_of(|facts| {
            note(facts.as_country);
            note(facts.registered_country);
            false
        });
        assert!(unknown.borrow().is_empty(), "{unknown:?}");
        assert_eq!(ASSIGNED.split(' ').count(), 249);
        assert!(ASSIGNED.split(' ').is_sorted() && ASSIGNED.split(' ').all(|code| CountryCode::new(code).is_some()));
        for code in ["ZZ", "QQ", "UK", "XX", "AA"] {
            assert!(!CountryCode::new(code).unwrap().is_known(), "{code}");
        }
    }
}
