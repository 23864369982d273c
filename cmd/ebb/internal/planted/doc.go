// Command planted puts bugs into copies of the tree and shows that the simulation finds them. A test of tests: what it does not find there,
// it would not find in earnest either.
//
// Each file in testdata is one bug that an engineer might make: a line that says what is wrong, and the places to change, as text to
// find and text to put there. They are found by their content, so that they outlive small edits of the code around them; a test says
// which one does not fit any more. There are no hooks in the product.
//
// The program copies the tree, plants one bug, builds the simulation of the copy, and runs seed after seed until one fails or the CPU time that
// a bug is given is used up. A failure counts only if the same seed passes in the tree as it is.
package main
