package redact

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// The greatest lengths of the parts of an e-mail address (RFC 5321).
const (
	maxLocal  = 64
	maxDomain = 255
)

func emails(text []byte) (found []span) {
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '@')
		if i < 0 {
			return found
		}
		at += i
		from, to := localPart(text, at), domain(text, at+1)
		if from < at && to > at+1 {
			found = append(found, span{from: from, to: to})
		}
	}
}

// localPart returns the index at which the part before the @ begins. The @ is at the index
// end.
func localPart(text []byte, end int) int {
	from := end
	for from > 0 && end-from < maxLocal {
		r, n := utf8.DecodeLastRune(text[:from])
		if !letter(r) && !bytes.ContainsRune([]byte("._%+-'"), r) {
			break
		}
		from -= n
	}
	for from < end && (text[from] == '.' || text[from] == '\'') {
		from++
	}
	return from
}

// domain returns the index at which the domain name that begins at from ends, or from if
// there is none. The last label must have at least two letters and no other characters.
func domain(text []byte, from int) int {
	dots, letters, end := 0, 0, from
	for i := from; i <= len(text) && i-from < maxDomain; {
		r, n := utf8.DecodeRune(text[i:]) // at the end of text it returns utf8.RuneError
		inside := letter(r) || r == '-'
		if !inside && dots > 0 && letters > 1 {
			end = i
		}
		switch {
		case r == '.' && i > from && text[i-1] != '.':
			dots, letters = dots+1, 0
		case !inside:
			return end
		case unicode.IsLetter(r):
			letters++
		default:
			letters -= maxDomain
		}
		i += n
	}
	return end
}

// letter reports whether r is a letter or a digit of a script that separates words by
// spaces. In other scripts an address would include the sentence around it.
func letter(r rune) bool {
	return r < 0x0590 && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

const (
	shortestCard = 13
	longestCard  = 19
)

func cards(text []byte) (found []span) {
	for i := 0; i < len(text); i++ {
		if !digit(text, i) || digit(text, i-1) {
			continue
		}
		if end := card(text, i); end > 0 {
			found = append(found, span{from: i, to: end})
			i = end
		}
	}
	return found
}

// card returns the index after the longest card number that begins at from, or 0 if there
// is none. Single spaces and dashes may stand between digits.
func card(text []byte, from int) (end int) {
	if text[from] < '2' || text[from] > '6' || point(text, from-1) && digit(text, from-2) {
		return 0 // no issuer uses this first digit, or the digits are the decimals of a number
	}
	var digits [longestCard]byte
	n := 0
	for i := from; i < len(text) && n < longestCard; i++ {
		switch {
		case digit(text, i):
			digits[n] = text[i] - '0'
			n++
			if n >= shortestCard && !digit(text, i+1) && luhn(digits[:n]) {
				end = i + 1
			}
		case text[i] != ' ' && text[i] != '-' || !digit(text, i+1):
			return end
		}
	}
	return end
}

func digit(text []byte, i int) bool {
	return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9'
}

func point(text []byte, i int) bool { return i >= 0 && text[i] == '.' }

// luhn reports whether the digits satisfy the check of ISO/IEC 7812-1, annex B.
func luhn(digits []byte) bool {
	sum := 0
	for i, d := range digits {
		v := int(d)
		if (len(digits)-i)%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return sum%10 == 0
}

func ibans(text []byte) (found []span) {
	for i := 0; i+4 < len(text); i++ {
		if !digit(text, i+2) || !digit(text, i+3) || i > 0 && alnum(text[i-1]) {
			continue
		}
		if end := iban(text, i); end > 0 {
			found = append(found, span{from: i, to: end})
			i = end
		}
	}
	return found
}

// iban returns the index after the IBAN that begins at from, or 0 if there is none. Single
// spaces may stand between its characters.
func iban(text []byte, from int) int {
	length := ibanLength[string(bytes.ToUpper(text[from:from+2]))]
	if length == 0 {
		return 0
	}
	chars := make([]byte, 0, length)
	for i := from; i < len(text); i++ {
		switch {
		case alnum(text[i]):
			if chars = append(chars, text[i]|0x20); len(chars) < length {
				continue
			}
			if i+1 < len(text) && alnum(text[i+1]) || !mod97(chars) {
				return 0
			}
			return i + 1
		case text[i] != ' ' || i+1 == len(text) || !alnum(text[i+1]):
			return 0
		}
	}
	return 0
}

func alnum(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }

// mod97 is the check of ISO 13616: the first four characters are moved to the end, and
// letters count from 10 (A) to 35 (Z).
func mod97(chars []byte) bool {
	rest := 0
	for i := range chars {
		c := chars[(i+4)%len(chars)]
		if c >= 'a' {
			rest = (rest*100 + int(c-'a') + 10) % 97
		} else {
			rest = (rest*10 + int(c&0x0f)) % 97
		}
	}
	return rest == 1
}

// ibanLength is the length of an IBAN by country, from the IBAN registry.
var ibanLength = map[string]int{
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
	"CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
	"FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
	"IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
	"LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
	"NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
	"SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
	"UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}
