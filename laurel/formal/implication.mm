$( The implicational fragment of propositional calculus in Polish notation: C p q reads "if p then q".

   What may be proved from these two axioms and detachment are the tautologies of intuitionistic implication. Labels of
   what a proof cites are single characters, so that a proof can be written without spaces. $)

$c C wff |- $.
$v p q r s t u v w x y z $.

wp $f wff p $.
wq $f wff q $.
wr $f wff r $.
ws $f wff s $.
wt $f wff t $.
wu $f wff u $.
wv $f wff v $.
ww $f wff w $.
wx $f wff x $.
wy $f wff y $.
wz $f wff z $.

wi $a wff C p q $.

$( Simplification: what holds, holds under any condition. $)
1 $a |- C p C q p $.

$( Distribution of a condition over an implication. $)
2 $a |- C C p C q r C C p q C p r $.

${
  D.1 $e |- C p q $.
  D.2 $e |- p $.
  $( Detachment (modus ponens), the implication first, as in Meredith's condensed detachment. $)
  D $a |- q $.
$}
